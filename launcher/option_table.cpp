#include <weft/launcher/option_table.hpp>

#include <algorithm>
#include <cctype>
#include <stdexcept>

namespace weft::inline v0::launcher {

namespace {

constexpr const char* kZero = "ZeRO";
constexpr const char* kFsdp = "sharded data parallelism";
constexpr const char* kMesh = "parallelism beyond data parallelism";
constexpr const char* kPrecision = "mixed precision";
constexpr const char* kFp8 = "8-bit precision";

// clang-format off
constexpr Option kOptions[] = {
    // processes
    {"nproc_per_node n", Kind::ranks, Section::processes, "N", "", "1",
     "ranks on this host; auto: as many as GPUs, or as cores", nullptr,
     "WEFT_NPROC_PER_NODE PET_NPROC_PER_NODE"},
    {"num_processes", Kind::ranks, Section::processes, "N", "", "",
     "ranks over all hosts; on one host the same as -n"},
    {"num_cpu_threads_per_process", Kind::integer, Section::processes, "N", "1..1048576", "a share",
     "threads that each rank may use", nullptr, "WEFT_NUM_THREADS"},
    {"bind", Kind::choice, Section::processes, "WHAT", "none|core|numa", "none",
     "keep ranks on cores of their own"},
    {"enable_cpu_affinity", Kind::flag, Section::processes, "", "", "false",
     "the same as --bind numa", nullptr, "WEFT_ENABLE_CPU_AFFINITY ACCELERATE_CPU_AFFINITY"},
    {"gpu_ids", Kind::gpus, Section::processes, "A,B", "", "all", "GPUs to use; all: each"},
    {"cpu use_cpu", Kind::flag, Section::processes, "", "", "false",
     "use no GPU, even where there is one", "use_cpu", "WEFT_USE_CPU ACCELERATE_USE_CPU"},
    {"env", Kind::variable, Section::processes, "NAME[=VALUE]", "", "",
     "a variable for the ranks; may be repeated", nullptr, ""},

    // hosts
    {"nnodes num_machines", Kind::nodes, Section::hosts, "N[:MAX]", "", "1",
     "hosts; MIN:MAX lets the job go on with fewer", "nnodes num_machines", "WEFT_NNODES PET_NNODES"},
    {"node_rank machine_rank", Kind::integer, Section::hosts, "N", "0..65535", "",
     "this host's number", "node_rank machine_rank", "WEFT_NODE_RANK PET_NODE_RANK"},
    {"rdzv_endpoint", Kind::endpoint, Section::hosts, "HOST[:PORT]", "", "",
     "where the hosts meet: an address of host 0", nullptr,
     "WEFT_RDZV_ENDPOINT PET_RDZV_ENDPOINT"},
    {"main_process_ip master_addr", Kind::text, Section::hosts, "HOST", "", "",
     "the host of --rdzv_endpoint", "main_process_ip master_addr", "WEFT_MAIN_PROCESS_IP PET_MASTER_ADDR MASTER_ADDR"},
    {"main_process_port master_port", Kind::integer, Section::hosts, "PORT", "0..65535", "",
     "the port of --rdzv_endpoint; 0: any that is free", "main_process_port master_port",
     "WEFT_MAIN_PROCESS_PORT PET_MASTER_PORT MASTER_PORT"},
    {"rdzv_id", Kind::text, Section::hosts, "NAME", "", "",
     "name of the job, the same on all hosts", nullptr, "WEFT_RDZV_ID PET_RDZV_ID"},
    {"rdzv_backend", Kind::choice, Section::hosts, "NAME", "static|c10d", "static",
     "both mean weft's own store", nullptr, "WEFT_RDZV_BACKEND PET_RDZV_BACKEND"},
    {"standalone", Kind::flag, Section::hosts, "", "", "false",
     "one host, whatever the environment or a file says of others", nullptr,
     "WEFT_STANDALONE PET_STANDALONE"},
    {"hostfile deepspeed_hostfile mpirun_hostfile", Kind::text, Section::hosts, "FILE", "", "",
     "hosts to start the job on, through ssh; lines HOST slots=N",
     "hostfile deepspeed_config.deepspeed_hostfile mpirun_config.mpirun_hostfile"},
    {"include deepspeed_inclusion_filter", Kind::text, Section::hosts, "HOSTS", "", "",
     "those of the hostfile to use: A@B:0,1 (B with two of its slots)",
     "include deepspeed_config.deepspeed_inclusion_filter"},
    {"exclude deepspeed_exclusion_filter", Kind::text, Section::hosts, "HOSTS", "", "",
     "those of the hostfile to leave out, in the same form",
     "exclude deepspeed_config.deepspeed_exclusion_filter"},
    {"ssh", Kind::text, Section::hosts, "COMMAND", "", "",
     "what --hostfile uses in the place of: ssh -o BatchMode=yes", ""},

    // watch
    {"max_restarts", Kind::integer, Section::watch, "N", "0..1000000", "0",
     "how often the job starts anew after a failure", nullptr,
     "WEFT_MAX_RESTARTS PET_MAX_RESTARTS"},
    {"time_limit", Kind::seconds, Section::watch, "SECONDS", "", "",
     "stop the job after this time; exit code 124"},
    {"grace shutdown_timeout", Kind::period, Section::watch, "SECONDS", "", "10",
     "from asking the ranks to end to killing them"},
    {"collective_timeout", Kind::integer, Section::watch, "SECONDS", "1..2147483647", "600",
     "how long a collective may wait for a rank"},
    {"join_timeout", Kind::integer, Section::watch, "SECONDS", "1..2147483647", "120",
     "how long ranks may take to find each other"},
    {"debug", Kind::flag, Section::watch, "", "", "false",
     "log more, in the launcher and in the ranks", nullptr, "WEFT_DEBUG ACCELERATE_DEBUG_MODE"},
    {"stats", Kind::flag, Section::watch, "", "", "false",
     "report at the end how ranks waited for each other"},

    // output
    {"log_dir", Kind::text, Section::output, "FOLDER", "", "",
     "keep the ranks' output in files of this folder", nullptr, "WEFT_LOG_DIR PET_LOG_DIR"},
    {"redirects r", Kind::mask, Section::output, "MASK", "", "0",
     "to files alone: 1 stdout, 2 stderr, 3 both; by rank: 0:1,1:2", nullptr,
     "WEFT_REDIRECTS PET_REDIRECTS"},
    {"tee t", Kind::mask, Section::output, "MASK", "", "0",
     "to files and to the console, masks as before", nullptr, "WEFT_TEE PET_TEE"},
    {"log_line_prefix_template", Kind::text, Section::output, "TEXT", "", "[${rank}] ",
     "before each line"},
    {"local_ranks_filter", Kind::integers, Section::output, "A,B", "0..65535", "",
     "show the output of these ranks of each host alone", nullptr,
     "WEFT_LOCAL_RANKS_FILTER PET_LOCAL_RANKS_FILTER"},
    {"color", Kind::choice, Section::output, "WHEN", "auto|always|never", "auto",
     "colour the prefixes; auto: on a terminal"},
    {"quiet q", Kind::flag, Section::output, "", "", "false",
     "leave out warnings and the consequences of a failure"},

    // training
    {"mixed_precision", Kind::choice, Section::training, "TYPE", "no|fp16|bf16|fp8", "no",
     "precision of the computation", nullptr,
     "WEFT_MIXED_PRECISION ACCELERATE_MIXED_PRECISION", kPrecision, "no"},
    {"gradient_accumulation_steps", Kind::integer, Section::training, "N", "1..2147483647", "1",
     "micro-batches to a step, where the program does not say",
     "gradient_accumulation_steps deepspeed_config.gradient_accumulation_steps",
     "WEFT_GRADIENT_ACCUMULATION_STEPS ACCELERATE_GRADIENT_ACCUMULATION_STEPS"},
    {"gradient_clipping", Kind::real, Section::training, "NORM", "0..1e30", "",
     "largest norm of the gradients", "gradient_clipping deepspeed_config.gradient_clipping",
     "WEFT_GRADIENT_CLIPPING ACCELERATE_GRADIENT_CLIPPING",
     "clipping without a call of clip_grad_norm_", "0|0.0"},
    {"distributed_type", Kind::choice, Section::training, "TYPE",
     "NO|MULTI_CPU|MULTI_GPU|MULTI_NPU|MULTI_MLU|MULTI_SDAA|MULTI_MUSA|MULTI_HPU|MULTI_NEURON|"
     "MULTI_XPU|DEEPSPEED|FSDP|XLA|MEGATRON_LM", "",
     "what a file of Accelerate was written for"},
    {"multi_gpu", Kind::flag, Section::training, "", "", "false",
     "ranks on GPUs; an error where there is none", ""},

    // zero
    {"use_deepspeed", Kind::flag, Section::zero, "", "", "false", "partition by ZeRO", "",
     "WEFT_USE_DEEPSPEED ACCELERATE_USE_DEEPSPEED", kZero, "false"},
    {"zero_stage", Kind::integer, Section::zero, "N", "0..3", "", "what is partitioned: 1 optimizer state, 2 gradients, 3 weights",
     "zero_stage deepspeed_config.zero_stage",
     "WEFT_ZERO_STAGE ACCELERATE_DEEPSPEED_ZERO_STAGE", kZero, "0"},
    {"offload_optimizer_device", Kind::choice, Section::zero, "WHERE", "none|cpu|nvme", "none",
     "where the optimizer state lies", "offload_optimizer_device deepspeed_config.offload_optimizer_device",
     "WEFT_OFFLOAD_OPTIMIZER_DEVICE ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
     "offloading of optimizer state", "none"},
    {"offload_param_device", Kind::choice, Section::zero, "WHERE", "none|cpu|nvme", "none",
     "where the weights lie", "offload_param_device deepspeed_config.offload_param_device",
     "WEFT_OFFLOAD_PARAM_DEVICE ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
     "offloading of weights", "none"},
    {"offload_optimizer_nvme_path", Kind::text, Section::zero, "FOLDER", "", "",
     "folder for it on a fast disk",
     "offload_optimizer_nvme_path deepspeed_config.offload_optimizer_nvme_path",
     "WEFT_OFFLOAD_OPTIMIZER_NVME_PATH ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_NVME_PATH",
     "offloading of optimizer state", "none"},
    {"offload_param_nvme_path", Kind::text, Section::zero, "FOLDER", "", "",
     "folder for them on a fast disk",
     "offload_param_nvme_path deepspeed_config.offload_param_nvme_path",
     "WEFT_OFFLOAD_PARAM_NVME_PATH ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_NVME_PATH",
     "offloading of weights", "none"},
    {"zero3_init_flag", Kind::boolean, Section::zero, "BOOL", "", "false",
     "build models already partitioned", "zero3_init_flag deepspeed_config.zero3_init_flag",
     "WEFT_ZERO3_INIT_FLAG ACCELERATE_DEEPSPEED_ZERO3_INIT", kZero, "false"},
    {"zero3_save_16bit_model", Kind::boolean, Section::zero, "BOOL", "", "false",
     "gather 16-bit weights when saving",
     "zero3_save_16bit_model deepspeed_config.zero3_save_16bit_model",
     "WEFT_ZERO3_SAVE_16BIT_MODEL ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL", kZero, "false"},
    {"deepspeed_config_file", Kind::text, Section::zero, "FILE", "", "",
     "a JSON file with all of this", "deepspeed_config.deepspeed_config_file",
     "WEFT_DEEPSPEED_CONFIG_FILE ACCELERATE_DEEPSPEED_CONFIG_FILE", kZero, "none"},
    {"deepspeed_moe_layer_cls_names", Kind::text, Section::zero, "A,B", "", "",
     "modules with experts", "deepspeed_config.deepspeed_moe_layer_cls_names",
     "WEFT_DEEPSPEED_MOE_LAYER_CLS_NAMES ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES", kZero, "none"},

    // fsdp
    {"use_fsdp", Kind::flag, Section::fsdp, "", "", "false", "shard models over the ranks", "",
     "WEFT_USE_FSDP ACCELERATE_USE_FSDP", kFsdp, "false"},
    {"fsdp_version", Kind::integer, Section::fsdp, "N", "1..2", "", "1 or 2",
     "fsdp_config.fsdp_version", "WEFT_FSDP_VERSION FSDP_VERSION", kFsdp, "1|2"},
    {"fsdp_sharding_strategy", Kind::choice, Section::fsdp, "NAME",
     "FULL_SHARD|SHARD_GRAD_OP|NO_SHARD|HYBRID_SHARD|HYBRID_SHARD_ZERO2|1|2|3|4|5", "",
     "what is sharded", "fsdp_config.fsdp_sharding_strategy",
     "WEFT_FSDP_SHARDING_STRATEGY FSDP_SHARDING_STRATEGY", kFsdp, "NO_SHARD|3"},
    {"fsdp_reshard_after_forward", Kind::choice, Section::fsdp, "BOOL",
     "true|false|FULL_SHARD|SHARD_GRAD_OP|NO_SHARD|HYBRID_SHARD|HYBRID_SHARD_ZERO2", "",
     "drop gathered weights after the forward pass", "fsdp_config.fsdp_reshard_after_forward",
     "WEFT_FSDP_RESHARD_AFTER_FORWARD FSDP_RESHARD_AFTER_FORWARD", kFsdp, "false"},
    {"fsdp_offload_params", Kind::boolean, Section::fsdp, "BOOL", "", "false",
     "keep shards in host memory", "fsdp_config.fsdp_offload_params",
     "WEFT_FSDP_OFFLOAD_PARAMS FSDP_OFFLOAD_PARAMS", kFsdp, "false"},
    {"fsdp_min_num_params", Kind::real, Section::fsdp, "N", "0..1e30", "",
     "smallest unit of size-based wrapping", "fsdp_config.fsdp_min_num_params",
     "WEFT_FSDP_MIN_NUM_PARAMS FSDP_MIN_NUM_PARAMS", kFsdp, "0"},
    {"fsdp_auto_wrap_policy", Kind::choice, Section::fsdp, "NAME",
     "TRANSFORMER_BASED_WRAP|SIZE_BASED_WRAP|NO_WRAP", "", "what becomes a unit",
     "fsdp_config.fsdp_auto_wrap_policy", "WEFT_FSDP_AUTO_WRAP_POLICY FSDP_AUTO_WRAP_POLICY", kFsdp,
     "NO_WRAP"},
    {"fsdp_transformer_layer_cls_to_wrap", Kind::text, Section::fsdp, "A,B", "", "",
     "modules that become units", "fsdp_config.fsdp_transformer_layer_cls_to_wrap",
     "WEFT_FSDP_TRANSFORMER_LAYER_CLS_TO_WRAP FSDP_TRANSFORMER_CLS_TO_WRAP", kFsdp},
    {"fsdp_backward_prefetch", Kind::choice, Section::fsdp, "NAME",
     "BACKWARD_PRE|BACKWARD_POST|NO_PREFETCH", "", "when the next unit is gathered",
     "fsdp_config.fsdp_backward_prefetch fsdp_config.fsdp_backward_prefetch_policy",
     "WEFT_FSDP_BACKWARD_PREFETCH FSDP_BACKWARD_PREFETCH", kFsdp, "NO_PREFETCH"},
    {"fsdp_forward_prefetch", Kind::boolean, Section::fsdp, "BOOL", "", "false",
     "gather ahead in the forward pass", "fsdp_config.fsdp_forward_prefetch",
     "WEFT_FSDP_FORWARD_PREFETCH FSDP_FORWARD_PREFETCH", kFsdp, "false"},
    {"fsdp_state_dict_type", Kind::choice, Section::fsdp, "NAME",
     "FULL_STATE_DICT|LOCAL_STATE_DICT|SHARDED_STATE_DICT", "", "form of saved weights",
     "fsdp_config.fsdp_state_dict_type", "WEFT_FSDP_STATE_DICT_TYPE FSDP_STATE_DICT_TYPE", kFsdp},
    {"fsdp_ignored_modules", Kind::text, Section::fsdp, "PATTERN", "", "",
     "modules that are not split", "fsdp_config.fsdp_ignored_modules",
     "WEFT_FSDP_IGNORED_MODULES FSDP_IGNORED_MODULES", kFsdp, ""},
    {"fsdp_use_orig_params", Kind::boolean, Section::fsdp, "BOOL", "", "",
     "keep parameters as they are", "fsdp_config.fsdp_use_orig_params",
     "WEFT_FSDP_USE_ORIG_PARAMS FSDP_USE_ORIG_PARAMS", kFsdp, "true|false"},
    {"fsdp_cpu_ram_efficient_loading", Kind::boolean, Section::fsdp, "BOOL", "", "",
     "load on one rank alone", "fsdp_config.fsdp_cpu_ram_efficient_loading",
     "WEFT_FSDP_CPU_RAM_EFFICIENT_LOADING FSDP_CPU_RAM_EFFICIENT_LOADING", kFsdp, "false"},
    {"fsdp_sync_module_states", Kind::boolean, Section::fsdp, "BOOL", "", "",
     "spread rank 0's weights", "fsdp_config.fsdp_sync_module_states",
     "WEFT_FSDP_SYNC_MODULE_STATES FSDP_SYNC_MODULE_STATES", kFsdp, "true|false"},
    {"fsdp_activation_checkpointing", Kind::boolean, Section::fsdp, "BOOL", "", "false",
     "compute activations again", "fsdp_config.fsdp_activation_checkpointing",
     "WEFT_FSDP_ACTIVATION_CHECKPOINTING FSDP_ACTIVATION_CHECKPOINTING", kFsdp, "false"},
    {"fsdp_activation_checkpointing_offload", Kind::boolean, Section::fsdp, "BOOL", "", "false",
     "keep their inputs in host memory", "fsdp_config.fsdp_activation_checkpointing_offload",
     nullptr, kFsdp, "false"},

    // parallel
    {"use_parallelism_config", Kind::flag, Section::parallel, "", "", "false",
     "a mesh of several dimensions", "use_parallelism_config",
     "WEFT_USE_PARALLELISM_CONFIG ACCELERATE_USE_PARALLELISM_CONFIG", kMesh, "false"},
    {"parallelism_config_dp_replicate_size", Kind::integer, Section::parallel, "N", "1..65536", "1",
     "replicas", "parallelism_config.parallelism_config_dp_replicate_size",
     "WEFT_PARALLELISM_CONFIG_DP_REPLICATE_SIZE PARALLELISM_CONFIG_DP_REPLICATE_SIZE", kMesh, "1"},
    {"parallelism_config_dp_shard_size", Kind::integer, Section::parallel, "N", "1..65536", "1",
     "shards", "parallelism_config.parallelism_config_dp_shard_size",
     "WEFT_PARALLELISM_CONFIG_DP_SHARD_SIZE PARALLELISM_CONFIG_DP_SHARD_SIZE", kMesh, "1"},
    {"parallelism_config_tp_size", Kind::integer, Section::parallel, "N", "1..65536", "1",
     "parts of each matrix", "parallelism_config.parallelism_config_tp_size tp_config.tp_size",
     "WEFT_PARALLELISM_CONFIG_TP_SIZE PARALLELISM_CONFIG_TP_SIZE", kMesh, "1"},
    {"parallelism_config_cp_size", Kind::integer, Section::parallel, "N", "1..65536", "1",
     "parts of each context", "parallelism_config.parallelism_config_cp_size",
     "WEFT_PARALLELISM_CONFIG_CP_SIZE PARALLELISM_CONFIG_CP_SIZE", kMesh, "1"},
    {"parallelism_config_sp_size", Kind::integer, Section::parallel, "N", "1..65536", "1",
     "parts of each sequence", "parallelism_config.parallelism_config_sp_size",
     "WEFT_PARALLELISM_CONFIG_SP_SIZE PARALLELISM_CONFIG_SP_SIZE", kMesh, "1"},
    {"parallelism_config_cp_comm_strategy", Kind::choice, Section::parallel, "NAME",
     "allgather|alltoall", "allgather", "how contexts meet",
     "parallelism_config.parallelism_config_cp_comm_strategy",
     "WEFT_PARALLELISM_CONFIG_CP_COMM_STRATEGY PARALLELISM_CONFIG_CP_COMM_STRATEGY", kMesh,
     "allgather"},
    {"parallelism_config_cp_backend", Kind::choice, Section::parallel, "NAME", "torch", "torch",
     "what splits contexts", "parallelism_config.parallelism_config_cp_backend", 
     "WEFT_PARALLELISM_CONFIG_CP_BACKEND PARALLELISM_CONFIG_CP_BACKEND", kMesh, "torch"},
    {"parallelism_config_sp_backend", Kind::choice, Section::parallel, "NAME", "deepspeed", "deepspeed",
     "what splits sequences", "parallelism_config.parallelism_config_sp_backend", 
     "WEFT_PARALLELISM_CONFIG_SP_BACKEND PARALLELISM_CONFIG_SP_BACKEND", kMesh, "deepspeed"},
    {"parallelism_config_sp_seq_length", Kind::integer, Section::parallel, "N", "0..2147483647", "",
     "length of sequences", "parallelism_config.parallelism_config_sp_seq_length", 
     "WEFT_PARALLELISM_CONFIG_SP_SEQ_LENGTH PARALLELISM_CONFIG_SP_SEQ_LENGTH", kMesh, "0"},
    {"parallelism_config_sp_seq_length_is_variable", Kind::boolean, Section::parallel, "BOOL", "", "",
     "whether it changes", "parallelism_config.parallelism_config_sp_seq_length_is_variable", 
     "WEFT_PARALLELISM_CONFIG_SP_SEQ_LENGTH_IS_VARIABLE PARALLELISM_CONFIG_SP_SEQ_LENGTH_IS_VARIABLE", kMesh, "true|false"},
    {"parallelism_config_sp_attn_implementation", Kind::text, Section::parallel, "NAME", "", "",
     "attention of split sequences", "parallelism_config.parallelism_config_sp_attn_implementation", 
     "WEFT_PARALLELISM_CONFIG_SP_ATTN_IMPLEMENTATION PARALLELISM_CONFIG_SP_ATTN_IMPLEMENTATION", kMesh, ""},

    // megatron
    {"use_megatron_lm", Kind::flag, Section::megatron, "", "", "false",
     "split models as Megatron-LM does", "", "WEFT_USE_MEGATRON_LM ACCELERATE_USE_MEGATRON_LM",
     kMesh, "false"},
    {"megatron_lm_tp_degree", Kind::integer, Section::megatron, "N", "1..65536", "1",
     "parts of each matrix", "megatron_lm_config.megatron_lm_tp_degree", 
     "WEFT_MEGATRON_LM_TP_DEGREE MEGATRON_LM_TP_DEGREE", kMesh, "1"},
    {"megatron_lm_pp_degree", Kind::integer, Section::megatron, "N", "1..65536", "1",
     "stages of the pipeline", "megatron_lm_config.megatron_lm_pp_degree", 
     "WEFT_MEGATRON_LM_PP_DEGREE MEGATRON_LM_PP_DEGREE", kMesh, "1"},
    {"megatron_lm_num_micro_batches", Kind::integer, Section::megatron, "N", "1..2147483647", "1",
     "micro-batches in the pipeline", "megatron_lm_config.megatron_lm_num_micro_batches", 
     "WEFT_MEGATRON_LM_NUM_MICRO_BATCHES MEGATRON_LM_NUM_MICRO_BATCHES", kMesh, "1"},
    {"megatron_lm_sequence_parallelism", Kind::boolean, Section::megatron, "BOOL", "", "",
     "split norms along the sequence", "megatron_lm_config.megatron_lm_sequence_parallelism", 
     "WEFT_MEGATRON_LM_SEQUENCE_PARALLELISM MEGATRON_LM_SEQUENCE_PARALLELISM", kMesh, "false"},
    {"megatron_lm_recompute_activations", Kind::boolean, Section::megatron, "BOOL", "", "",
     "compute activations again", "megatron_lm_config.megatron_lm_recompute_activations", 
     "WEFT_MEGATRON_LM_RECOMPUTE_ACTIVATIONS MEGATRON_LM_RECOMPUTE_ACTIVATIONS", kMesh, "false"},
    {"megatron_lm_recompute_granularity", Kind::choice, Section::megatron, "WHAT", "full|selective", "",
     "which of them", "megatron_lm_config.megatron_lm_recompute_granularity", 
     "WEFT_MEGATRON_LM_RECOMPUTE_GRANULARITY MEGATRON_LM_RECOMPUTE_GRANULARITY", kMesh, ""},
    {"megatron_lm_recompute_method", Kind::choice, Section::megatron, "HOW", "uniform|block", "",
     "how they are chosen", "megatron_lm_config.megatron_lm_recompute_method", 
     "WEFT_MEGATRON_LM_RECOMPUTE_METHOD MEGATRON_LM_RECOMPUTE_METHOD", kMesh, ""},
    {"megatron_lm_recompute_num_layers", Kind::integer, Section::megatron, "N", "0..65536", "",
     "how many layers", "megatron_lm_config.megatron_lm_recompute_num_layers", 
     "WEFT_MEGATRON_LM_RECOMPUTE_NUM_LAYERS MEGATRON_LM_RECOMPUTE_NUM_LAYERS", kMesh, "0"},
    {"megatron_lm_use_distributed_optimizer", Kind::boolean, Section::megatron, "BOOL", "", "",
     "shard the optimizer state", "megatron_lm_config.megatron_lm_use_distributed_optimizer", 
     "WEFT_MEGATRON_LM_USE_DISTRIBUTED_OPTIMIZER MEGATRON_LM_USE_DISTRIBUTED_OPTIMIZER", kMesh, "false"},
    {"megatron_lm_gradient_clipping", Kind::real, Section::megatron, "NORM", "0..1e30", "",
     "largest norm of the gradients", "megatron_lm_config.megatron_lm_gradient_clipping", 
     "WEFT_MEGATRON_LM_GRADIENT_CLIPPING MEGATRON_LM_GRADIENT_CLIPPING", kMesh, "0"},
    {"megatron_lm_expert_model_parallel_size", Kind::integer, Section::megatron, "N", "1..65536", "1",
     "ranks that share experts", "megatron_lm_config.megatron_lm_expert_model_parallel_size", 
     "WEFT_MEGATRON_LM_EXPERT_MODEL_PARALLEL_SIZE MEGATRON_LM_EXPERT_MODEL_PARALLEL_SIZE", kMesh, "1"},
    {"megatron_lm_context_parallel_size", Kind::integer, Section::megatron, "N", "1..65536", "1",
     "parts of each context", "megatron_lm_config.megatron_lm_context_parallel_size", 
     "WEFT_MEGATRON_LM_CONTEXT_PARALLEL_SIZE MEGATRON_LM_CONTEXT_PARALLEL_SIZE", kMesh, "1"},
    {"megatron_lm_attention_backend", Kind::text, Section::megatron, "NAME", "", "",
     "kernel of attention", "megatron_lm_config.megatron_lm_attention_backend", 
     "WEFT_MEGATRON_LM_ATTENTION_BACKEND MEGATRON_LM_ATTENTION_BACKEND", kMesh, ""},
    {"megatron_lm_optimizer_cpu_offload", Kind::boolean, Section::megatron, "BOOL", "", "",
     "optimizer state in host memory", "megatron_lm_config.megatron_lm_optimizer_cpu_offload", 
     "WEFT_MEGATRON_LM_OPTIMIZER_CPU_OFFLOAD MEGATRON_LM_OPTIMIZER_CPU_OFFLOAD", kMesh, "false"},
    {"megatron_lm_use_precision_aware_optimizer", Kind::boolean, Section::megatron, "BOOL", "", "",
     "low-precision optimizer state", "megatron_lm_config.megatron_lm_use_precision_aware_optimizer", 
     "WEFT_MEGATRON_LM_USE_PRECISION_AWARE_OPTIMIZER MEGATRON_LM_USE_PRECISION_AWARE_OPTIMIZER", kMesh, "false"},
    {"megatron_lm_overlap_cpu_optimizer_d2h_h2d", Kind::boolean, Section::megatron, "BOOL", "", "",
     "overlap its copies", "megatron_lm_config.megatron_lm_overlap_cpu_optimizer_d2h_h2d", 
     "WEFT_MEGATRON_LM_OVERLAP_CPU_OPTIMIZER_D2H_H2D MEGATRON_LM_OVERLAP_CPU_OPTIMIZER_D2H_H2D", kMesh, "false"},
    {"megatron_lm_decoder_last_pipeline_num_layers", Kind::integer, Section::megatron, "N", "0..65536", "",
     "layers of the last stage", "megatron_lm_config.megatron_lm_decoder_last_pipeline_num_layers", 
     "WEFT_MEGATRON_LM_DECODER_LAST_PIPELINE_NUM_LAYERS MEGATRON_LM_DECODER_LAST_PIPELINE_NUM_LAYERS", kMesh, "0"},
    {"megatron_lm_use_custom_fsdp", Kind::boolean, Section::megatron, "BOOL", "", "",
     "shard the model", "megatron_lm_config.megatron_lm_use_custom_fsdp", 
     "WEFT_MEGATRON_LM_USE_CUSTOM_FSDP MEGATRON_LM_USE_CUSTOM_FSDP", kMesh, "false"},
    {"megatron_lm_no_load_optim", Kind::boolean, Section::megatron, "BOOL", "", "",
     "leave the optimizer out when loading", "megatron_lm_config.megatron_lm_no_load_optim", 
     "WEFT_MEGATRON_LM_NO_LOAD_OPTIM MEGATRON_LM_NO_LOAD_OPTIM", kMesh, "true|false"},
    {"megatron_lm_no_save_optim", Kind::boolean, Section::megatron, "BOOL", "", "",
     "leave the optimizer out when saving", "megatron_lm_config.megatron_lm_no_save_optim", 
     "WEFT_MEGATRON_LM_NO_SAVE_OPTIM MEGATRON_LM_NO_SAVE_OPTIM", kMesh, "true|false"},
    {"megatron_lm_eod_mask_loss", Kind::boolean, Section::megatron, "BOOL", "", "",
     "no loss at the ends of documents", "megatron_lm_config.megatron_lm_eod_mask_loss", 
     "WEFT_MEGATRON_LM_EOD_MASK_LOSS MEGATRON_LM_EOD_MASK_LOSS", kMesh, "false"},
    {"megatron_lm_expert_tensor_parallel_size", Kind::integer, Section::megatron, "N", "1..65536", "1",
     "parts of each expert's matrices", "megatron_lm_config.megatron_lm_expert_tensor_parallel_size",
     "WEFT_MEGATRON_LM_EXPERT_TENSOR_PARALLEL_SIZE MEGATRON_LM_EXPERT_TENSOR_PARALLEL_SIZE", kMesh, "1"},
    {"megatron_lm_attention_dropout", Kind::real, Section::megatron, "P", "0..1", "",
     "dropout in attention", "megatron_lm_config.megatron_lm_attention_dropout",
     "WEFT_MEGATRON_LM_ATTENTION_DROPOUT MEGATRON_LM_ATTENTION_DROPOUT", kMesh, ""},
    {"megatron_lm_hidden_dropout", Kind::real, Section::megatron, "P", "0..1", "",
     "dropout elsewhere", "megatron_lm_config.megatron_lm_hidden_dropout",
     "WEFT_MEGATRON_LM_HIDDEN_DROPOUT MEGATRON_LM_HIDDEN_DROPOUT", kMesh, ""},
    {"megatron_lm_attention_softmax_in_fp32", Kind::boolean, Section::megatron, "BOOL", "", "",
     "softmax of attention in f32", "megatron_lm_config.megatron_lm_attention_softmax_in_fp32",
     "WEFT_MEGATRON_LM_ATTENTION_SOFTMAX_IN_FP32 MEGATRON_LM_ATTENTION_SOFTMAX_IN_FP32", kMesh, "true|false"},
    {"megatron_lm_calculate_per_token_loss", Kind::boolean, Section::megatron, "BOOL", "", "",
     "mean loss over tokens, not over micro-batches", "megatron_lm_config.megatron_lm_calculate_per_token_loss",
     "WEFT_MEGATRON_LM_CALCULATE_PER_TOKEN_LOSS MEGATRON_LM_CALCULATE_PER_TOKEN_LOSS", kMesh, "true|false"},
    {"megatron_lm_use_rotary_position_embeddings", Kind::boolean, Section::megatron, "BOOL", "", "",
     "rotary embeddings of positions", "megatron_lm_config.megatron_lm_use_rotary_position_embeddings",
     "WEFT_MEGATRON_LM_USE_ROTARY_POSITION_EMBEDDINGS MEGATRON_LM_USE_ROTARY_POSITION_EMBEDDINGS", kMesh, "true|false"},

    // fp8
    {"fp8_format", Kind::choice, Section::fp8, "NAME", "HYBRID|E4M3|E5M2", "HYBRID",
     "8-bit format", "fp8_config.fp8_format", "WEFT_FP8_FORMAT ACCELERATE_FP8_FORMAT", kFp8,
     "HYBRID"},
    {"fp8_margin", Kind::integer, Section::fp8, "N", "0..1024", "0", "margin of the scales",
     "fp8_config.fp8_margin", "WEFT_FP8_MARGIN ACCELERATE_FP8_MARGIN", kFp8, "0"},
    {"fp8_interval", Kind::integer, Section::fp8, "N", "1..1000000", "1",
     "steps between new scales", "fp8_config.fp8_interval",
     "WEFT_FP8_INTERVAL ACCELERATE_FP8_INTERVAL", kFp8, "1"},
    {"fp8_amax_history_len", Kind::integer, Section::fp8, "N", "1..1000000", "1024",
     "steps that scales look back", "fp8_config.fp8_amax_history_len fp8_config.fp8_amax_history_length",
     "WEFT_FP8_AMAX_HISTORY_LEN ACCELERATE_FP8_AMAX_HISTORY_LEN", kFp8, "1024"},
    {"fp8_amax_compute_algo", Kind::choice, Section::fp8, "NAME", "max|most_recent", "most_recent",
     "how they do", "fp8_config.fp8_amax_compute_algo fp8_config.fp8_amax_compute_algorithm",
     "WEFT_FP8_AMAX_COMPUTE_ALGO ACCELERATE_FP8_AMAX_COMPUTE_ALGO", kFp8, "most_recent"},
    {"fp8_override_linear_precision", Kind::text, Section::fp8, "A,B,C", "", "",
     "passes kept in higher precision", "fp8_config.fp8_override_linear_precision", 
     "WEFT_FP8_OVERRIDE_LINEAR_PRECISION ACCELERATE_FP8_OVERRIDE_LINEAR_PRECISION", kFp8, ""},
    {"fp8_use_autocast_during_eval", Kind::boolean, Section::fp8, "BOOL", "", "",
     "8-bit in evaluation too", "fp8_config.fp8_use_autocast_during_eval", 
     "WEFT_FP8_USE_AUTOCAST_DURING_EVAL ACCELERATE_FP8_USE_AUTOCAST_DURING_EVAL", kFp8, "true|false"},
    {"fp8_pad_inner_dim", Kind::boolean, Section::fp8, "BOOL", "", "",
     "pad matrices", "fp8_config.fp8_pad_inner_dim", 
     "WEFT_FP8_PAD_INNER_DIM ACCELERATE_FP8_PAD_INNER_DIM", kFp8, "true|false"},
    {"fp8_enable_fsdp_float8_all_gather", Kind::boolean, Section::fp8, "BOOL", "", "",
     "gather weights in 8 bits", "fp8_config.fp8_enable_fsdp_float8_all_gather", 
     "WEFT_FP8_ENABLE_FSDP_FLOAT8_ALL_GATHER ACCELERATE_FP8_ENABLE_FSDP_FLOAT8_ALL_GATHER", kFp8, "true|false"},

    // general
    {"config_file", Kind::text, Section::general, "FILE", "", "",
     "the configuration to use; none: none at all", ""},
    {"dry_run", Kind::flag, Section::general, "", "", "false",
     "print what would run and where each value comes from", "", ""},

    // idle
    {"no_python", Kind::flag, Section::idle, "", "", "", "programs are always run as they are", "", ""},
    {"same_network", Kind::flag, Section::idle, "", "", "", "any network will do", "", ""},
    {"monitor_interval", Kind::text, Section::idle, "SECONDS", "", "", "ranks are watched without polling", "", ""},
    {"role", Kind::text, Section::idle, "NAME", "", "", "ranks have no roles", "", ""},
    {"rdzv_conf", Kind::text, Section::idle, "A=B", "", "", "the store needs none of it", "", ""},
    {"main_training_function", Kind::text, Section::idle, "NAME", "", "", "a program has its own start", "", ""},
    {"downcast_bf16", Kind::flag, Section::idle, "", "", "", "a matter of TPUs", "", ""},
    {"dynamo_backend", Kind::text, Section::idle, "NAME", "", "", "programs are compiled already", "", ""},
    {"dynamo_mode", Kind::text, Section::idle, "NAME", "", "", "the same", "", ""},
    {"dynamo_use_fullgraph", Kind::flag, Section::idle, "", "", "", "the same", "", ""},
    {"dynamo_use_dynamic", Kind::flag, Section::idle, "", "", "", "the same", "", ""},
    {"dynamo_use_regional_compilation", Kind::flag, Section::idle, "", "", "", "the same", "", ""},
    {"fp8_backend", Kind::text, Section::idle, "NAME", "", "", "there is one", "", ""},
    {"fp8_opt_level", Kind::text, Section::idle, "NAME", "", "", "the same", "", ""},
    {"deepspeed_multinode_launcher", Kind::text, Section::idle, "NAME", "", "", "ssh, or what starts the launchers", "", ""},
    {"start_method", Kind::text, Section::idle, "NAME", "", "", "ranks are programs", "", ""},
    {"signals_to_handle", Kind::text, Section::idle, "A,B", "", "", "all signals are handled", "", ""},
    {"virtual_local_rank", Kind::flag, Section::idle, "", "", "", "a matter of GPUs", "", ""},
    {"local_addr", Kind::text, Section::idle, "HOST", "", "", "the route to --rdzv_endpoint gives it", "", ""},
    {"event_log_handler", Kind::text, Section::idle, "NAME", "", "", "there are no events to log", "", ""},
    {"logs_specs", Kind::text, Section::idle, "NAME", "", "", "there is one way to log", "", ""},
    {"duplicate_stdout_filters", Kind::text, Section::idle, "A,B", "", "", "lines are not filtered", "", ""},
    {"duplicate_stderr_filters", Kind::text, Section::idle, "A,B", "", "", "the same", "", ""},
    {"no_local_rank", Kind::flag, Section::idle, "", "", "", "arguments are passed as they are", "", ""},
};
// clang-format on

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::span<const Option> option_table() { return kOptions; }

const char* title_of(Section section) {
  switch (section) {
    case Section::processes: return "Processes";
    case Section::hosts: return "Several hosts";
    case Section::watch: return "Watching over them";
    case Section::output: return "Their output";
    case Section::training: return "Training";
    case Section::zero: return "ZeRO (in a later version)";
    case Section::fsdp: return "Sharded data parallelism (in a later version)";
    case Section::parallel: return "Parallelism of several dimensions (in a later version)";
    case Section::megatron: return "Parallelism after Megatron-LM (in a later version)";
    case Section::fp8: return "8-bit precision (in a later version)";
    case Section::general: return "General";
    case Section::idle: return "Without a meaning here, taken for the sake of scripts";
  }
  return "";
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  if (text.empty()) return parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(separator, start), text.size());
    parts.emplace_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

std::vector<std::string> names_of(const Option& option) { return split(option.names, ' '); }

std::string name_of(const Option& option) {
  const std::string_view names = option.names;
  return std::string(names.substr(0, names.find(' ')));
}

std::vector<std::string> keys_of(const Option& option) {
  return option.keys == nullptr ? std::vector{name_of(option)} : split(option.keys, ' ');
}

std::vector<std::string> variables_of(const Option& option) {
  if (option.variables != nullptr) return split(option.variables, ' ');
  return {"WEFT_" + upper(name_of(option))};
}

const Option* find_option(std::string_view spelling) {
  std::string wanted(spelling);
  std::replace(wanted.begin(), wanted.end(), '-', '_');
  for (const Option& option : kOptions) {
    std::string_view names = option.names;
    while (!names.empty()) {
      const size_t end = std::min(names.find(' '), names.size());
      if (names.substr(0, end) == wanted) return &option;
      names.remove_prefix(std::min(end + 1, names.size()));
    }
  }
  return nullptr;
}

const Option& option_named(std::string_view name) {
  const Option* option = find_option(name);
  if (option == nullptr) throw std::logic_error("no option " + std::string(name));
  return *option;
}

}  // namespace weft::inline v0::launcher
