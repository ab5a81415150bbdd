// Configuration files: the keys, their types, what is refused, and which value wins.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include <weft/launcher/command_line.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/error.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/environment.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

const std::string kConfigs = WEFT_SOURCE_ROOT "/tests/goldens/configs/";

/// A file resolved with the flags, as launch does it.
LaunchOptions resolved(const std::string& text, const std::vector<std::string>& flags = {}) {
  return resolve(parse_command_line(flags), parse_config(text, "f.yaml").settings, false);
}

void refuses(const std::string& name, const std::string& text) {
  check_error<ConfigError>(name, [&] { parse_config(text, "f.yaml"); });
}

void refuses_to_start(const std::string& name, const std::string& text,
                      const std::vector<std::string>& flags = {}) {
  const LaunchOptions options = resolved(text, flags);
  std::string thrown;
  try {
    refuse_unsupported(options);
  } catch (const LaunchError& error) {
    thrown = error.what();
    CHECK(error.code() == 2);
  }
  CHECK(compare_error_text(name, thrown) == "");
}

}  // namespace

TEST_CASE("config files: those that Accelerate wrote load with every value") {
  const auto cpu2 = load_config(kConfigs + "cpu2.yaml");
  const LaunchOptions two = resolve({}, cpu2.settings, false);
  CHECK(two.ranks == 2);
  CHECK(two.total_ranks == 2);
  CHECK(two.cpu);
  CHECK(two.origin("num_processes") == kConfigs + "cpu2.yaml:10:1");
  CHECK(two.setting("distributed_type").value == "MULTI_CPU");
  CHECK(two.setting("mixed_precision").value == "no");
  CHECK(cpu2.ignored == std::vector<std::string>{"compute_environment", "downcast_bf16",
                                                 "main_training_function", "same_network",
                                                 "tpu_use_cluster", "tpu_use_sudo"});
  refuse_unsupported(two);

  const LaunchOptions zero = resolve({}, load_config(kConfigs + "deepspeed3.yaml").settings, false);
  CHECK(zero.ranks == 4);
  CHECK(zero.setting("zero_stage").value == "3");
  CHECK(zero.origin("zero_stage") == kConfigs + "deepspeed3.yaml:11:3");
  CHECK(zero.setting("offload_optimizer_nvme_path").value == "/nvme0");
  CHECK(zero.setting("gradient_accumulation_steps").value == "4");
  CHECK(zero.setting("zero3_save_16bit_model").value == "true");

  const LaunchOptions fsdp = resolve({}, load_config(kConfigs + "fsdp2.yaml").settings, false);
  CHECK(fsdp.setting("fsdp_version").value == "2");
  CHECK(fsdp.setting("fsdp_transformer_layer_cls_to_wrap").value == "Block");
  CHECK(fsdp.setting("fsdp_state_dict_type").value == "SHARDED_STATE_DICT");

  const LaunchOptions gpus = resolve({}, load_config(kConfigs + "gpu8-bf16.yaml").settings, false);
  CHECK(gpus.ranks == 8);
  CHECK(gpus.setting("gpu_ids").value == "all");
  CHECK_FALSE(gpus.cpu);
}

TEST_CASE("config files: cpu2.yaml launches two ranks, the others say what is missing") {
  const auto two = launch({"--config_file", kConfigs + "cpu2.yaml", kProbe, "env=WORLD_SIZE"});
  CHECK(two.exit_code == 0);
  CHECK(count_of(two.out, "WORLD_SIZE=2\n") == 2);
  const std::pair<const char*, const char*> rest[] = {
      {"deepspeed3.yaml", "config_launch_deepspeed3"},
      {"fsdp2.yaml", "config_launch_fsdp2"},
      {"gpu8-bf16.yaml", "config_launch_gpu8"}};
  for (const auto& [file, name] : rest) {
    const auto result = launch({"--config_file", kConfigs + file, kProbe});
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    const std::string text = result.err.substr(0, result.err.size() - 1);
    CHECK(compare_error_text(name, replaced(text, kConfigs, "")) == "");
  }
}

TEST_CASE("config files: older and other files of Accelerate") {
  // Before mixed_precision; nulls; empty sections; keys without their prefix.
  CHECK(resolved("fp16: true\n").setting("mixed_precision").value == "fp16");
  CHECK(resolved("fp16: false\n").setting("mixed_precision").value == "no");
  CHECK(resolved("fp16: true\nmixed_precision: bf16\n").setting("mixed_precision").value == "bf16");
  CHECK(resolved("mixed_precision: bf16\nfp16: true\n").setting("mixed_precision").value == "bf16");
  const auto old = resolved(
      "compute_environment: LOCAL_MACHINE\ndeepspeed_config: {}\ndistributed_type: 'NO'\n"
      "fsdp_config:\nmain_process_ip: null\nmain_process_port: null\nnum_processes: -1\n");
  CHECK_FALSE(old.given("num_processes"));
  CHECK_FALSE(old.given("main_process_ip"));
  CHECK(old.ranks == 1);
  CHECK(resolved("distributed_type: no\n").setting("distributed_type").value == "no");
  const auto eight = resolved(
      "fp8_config:\n  amax_compute_algo: max\n  amax_history_len: 512\n  fp8_format: E4M3\n"
      "  override_linear_precision: (false, false, false)\nfsdp_config:\n  version: 2\n");
  CHECK(eight.setting("fp8_amax_history_len").value == "512");
  CHECK(eight.setting("fp8_format").value == "E4M3");
  // As Accelerate's questions write it, and as its yaml library writes what was a tuple.
  const auto asked = resolved(
      "fp8_config:\n  amax_compute_algorithm: max\n  amax_history_length: 256\n  backend: TE\n"
      "  optimization_level: O2\n  override_linear_precision:\n  - false\n  - true\n  - false\n"
      "fsdp_config:\n  fsdp_ignored_modules: null\n  fsdp_sharding_strategy: 1\n");
  CHECK(asked.setting("fp8_amax_history_len").value == "256");
  CHECK(asked.setting("fp8_override_linear_precision").value == "false,true,false");
  CHECK_FALSE(asked.given("fsdp_ignored_modules"));
  CHECK(eight.setting("fsdp_version").value == "2");
  const auto mpi = resolved(
      "num_machines: 4\nnum_processes: 16\nmain_process_ip: 127.0.0.1\nmain_process_port: 29500\n"
      "mpirun_config:\n  mpirun_ccl: '1'\n  mpirun_hostfile: /home/user/hostfile\n");
  CHECK(mpi.hostfile == "/home/user/hostfile");
  CHECK(mpi.nnodes_max == 4);
  CHECK(mpi.ranks == 4);
  CHECK(mpi.rdzv_endpoint->port == 29500);
  CHECK(resolved("deepspeed_config:\n  gradient_accumulation_steps: auto\n")
            .setting("gradient_accumulation_steps")
            .value == "1");
}

TEST_CASE("config files: JSON, lists, and weft's own keys") {
  const auto json = resolved(
      R"({"num_processes": 3, "use_cpu": true, "gpu_ids": [0, 1], "env": {"A": "1", "B": "x=y"}})");
  CHECK(json.ranks == 3);
  CHECK(json.gpu_ids == std::vector<int>{0, 1});
  CHECK(json.environment == std::vector<std::string>{"ACCELERATE_USE_CPU=true", "A=1", "B=x=y"});
  const auto own = resolved(
      "nproc_per_node: 2\nnnodes: 1:3\ngrace: 2.5\ntee: 0:3,1:2\nlog_dir: logs\nbind: core\n"
      "local_ranks_filter: [0, 1]\ncolor: never\nmax_restarts: 2\ntime_limit: 60\n"
      "env: [A=b, C=d]\nnum_cpu_threads_per_process: 4\nrdzv_endpoint: '[::1]:2000'\n");
  CHECK(own.ranks == 2);
  CHECK(own.nnodes_min == 1);
  CHECK(own.nnodes_max == 3);
  CHECK(own.grace == 2.5);
  CHECK(own.tee.of(0) == 3);
  CHECK(own.tee.of(1) == 2);
  CHECK(own.tee.of(2) == 0);
  CHECK(own.bind == Bind::core);
  CHECK(own.color == Color::never);
  CHECK(own.local_ranks_filter == std::vector<int>{0, 1});
  CHECK(own.max_restarts == 2);
  CHECK(own.time_limit == 60);
  CHECK(own.threads_per_process == 4);
  CHECK(own.rdzv_endpoint->host == "::1");
  CHECK(own.rdzv_endpoint->port == 2000);
  CHECK(own.environment == std::vector<std::string>{"WEFT_NUM_THREADS=4", "A=b", "C=d"});
}

TEST_CASE("config files: an error has file, line, column and the nearest key") {
  refuses("config_unknown", "num_processes: 2\nnum_proceses: 3\n");
  refuses("config_unknown_section", "fsdp_cofnig:\n  fsdp_version: 2\n");
  refuses("config_unknown_nested",
          "deepspeed_config:\n  zero_stage: 3\n  offload_optimiser_device: cpu\n");
  refuses("config_unknown_nested_prefix", "fsdp_config:\n  fsdp_activation_checkpoint: true\n");
  refuses("config_unknown_nested_bare", "fsdp_config:\n  state_dict_typ: FULL_STATE_DICT\n");
  refuses("config_nested_at_top", "fsdp_version: 2\n");
  refuses("config_top_in_section", "fsdp_config:\n  num_processes: 2\n");
  refuses("config_not_a_map", "- a\n- b\n");
  refuses("config_section_text", "fsdp_config: yes\n");
  refuses("config_section_list", "fsdp_config: [1]\n");
  refuses("config_int_word", "num_processes: abc\n");
  refuses("config_int_list", "machine_rank: [1]\n");
  refuses("config_int_map", "main_process_port:\n  a: 1\n");
  refuses("config_int_range", "main_process_port: 70000\n");
  refuses("config_bool_word", "use_cpu: maybe\n");
  refuses("config_enum_word", "mixed_precision: fp32\n");
  refuses("config_type_word", "distributed_type: WRONG\n");
  refuses("config_nested_enum", "deepspeed_config:\n  offload_param_device: disk\n");
  refuses("config_nested_int", "deepspeed_config:\n  zero_stage: 4\n");
  refuses("config_real_word", "gradient_clipping: much\n");
  refuses("config_seconds_word", "grace: soon\n");
  refuses("config_list_of_lists", "gpu_ids: [[1]]\n");
  refuses("config_env_name", "env: [1A=b]\n");
  refuses("config_env_map_list", "env:\n  A: [1]\n");
  refuses("config_fp16_word", "fp16: half\n");
  refuses("config_sagemaker", "compute_environment: AMAZON_SAGEMAKER\n");
  refuses("config_duplicate", "debug: true\ndebug: false\n");
  refuses("config_aliases", "nnodes: 2\nnum_machines: 3\n");
  refuses("config_syntax", "a: [1\n");
  const auto missing = launch({"--config_file", "/no/such.yaml", kProbe});
  CHECK(missing.exit_code == 2);
  CHECK(missing.err == "launcher: /no/such.yaml: cannot be read: No such file or directory\n");
}

TEST_CASE("config files: the same key in two spellings is fine where the values agree") {
  CHECK(resolved("nnodes: 2\nnum_machines: 2\n").nnodes_max == 2);
  CHECK(resolved("gradient_accumulation_steps: 2\n"
                 "deepspeed_config:\n  gradient_accumulation_steps: 2\n")
            .setting("gradient_accumulation_steps")
            .value == "2");
}

TEST_CASE("config files: what a later version brings is refused when a program starts") {
  refuses_to_start("config_start_flag", "", {"--zero_stage", "2"});
  refuses_to_start("config_start_flag_dashes", "",
                   {"--mixed-precision", "bf16", "--gradient-clipping", "1"});
  refuses_to_start("config_start_use_fsdp", "", {"--use_fsdp"});
  refuses_to_start("config_start_file", "mixed_precision: fp16\n");
  refuses_to_start("config_start_section",
                   "distributed_type: 'NO'\nfsdp_config:\n  version: 2\n  offload_params: true\n");
  refuses_to_start("config_start_type", "distributed_type: MEGATRON_LM\n");
  refuses_to_start("config_start_gpus", "", {"--gpu_ids", "0,1"});
  refuses_to_start("config_start_multi_gpu", "", {"--multi_gpu"});
  {
    const Environment environment({std::pair("ACCELERATE_MIXED_PRECISION", "bf16")});
    refuses_to_start("config_start_variable", "");
  }
  // What asks for nothing passes.
  refuse_unsupported(resolved(
      "mixed_precision: 'no'\ndeepspeed_config:\n  zero_stage: 0\n  offload_param_device: none\n"
      "  gradient_clipping: 0.0\n  zero3_init_flag: False\nfsdp_config:\n"
      "  fsdp_sharding_strategy: NO_SHARD\n"));
  refuse_unsupported(resolved("distributed_type: MULTI_GPU\n", {"--cpu"}));
  refuse_unsupported(resolved("mixed_precision: bf16\n", {"--mixed_precision", "no"}));
}

TEST_CASE("options: flag over environment over file over default, for every layer and spelling") {
  struct Row {
    const char *option, *flag, *key, *variable, *fallback;
    const char *from_flag, *from_variable, *from_fallback, *from_file, *initial;
  };
  // rdzv_backend, same_network's neighbours and enable_cpu_affinity are those that Accelerate's
  // files cannot set.
  const Row rows[] = {
      {"gradient_accumulation_steps", "--gradient-accumulation-steps",
       "gradient_accumulation_steps", "WEFT_GRADIENT_ACCUMULATION_STEPS",
       "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2", "3", "4", "5", "1"},
      {"mixed_precision", "--mixed_precision", "mixed_precision", "WEFT_MIXED_PRECISION",
       "ACCELERATE_MIXED_PRECISION", "bf16", "fp16", "fp8", "bf16", "no"},
      {"nnodes", "--num_machines", "num_machines", "WEFT_NNODES", nullptr, "2", "3", "", "4", "1"},
      {"rdzv_backend", "--rdzv-backend", "rdzv_backend", "WEFT_RDZV_BACKEND", nullptr, "static",
       "c10d", "", "c10d", "static"},
      {"enable_cpu_affinity", "--enable_cpu_affinity=false", "enable_cpu_affinity",
       "WEFT_ENABLE_CPU_AFFINITY", "ACCELERATE_CPU_AFFINITY", "false", "true", "1", "true",
       "false"},
      {"grace", "--grace", "grace", "WEFT_GRACE", nullptr, "1", "2", "", "3", "10"},
      {"num_processes", "--num-processes", "num_processes", "WEFT_NUM_PROCESSES", nullptr, "2", "3",
       "", "4", ""},
      {"num_cpu_threads_per_process", "--num_cpu_threads_per_process",
       "num_cpu_threads_per_process", "WEFT_NUM_THREADS", nullptr, "2", "3", "", "4", "a share"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.option);
    for (int layers = 0; layers < 16; ++layers) {
      const bool flag = (layers & 1) != 0, variable = (layers & 2) != 0,
                 fallback = (layers & 4) != 0 && row.fallback != nullptr, file = (layers & 8) != 0;
      std::vector<std::pair<std::string, std::optional<std::string>>> changes = {
          {row.variable, variable ? std::optional<std::string>(row.from_variable) : std::nullopt}};
      if (row.fallback != nullptr)
        changes.emplace_back(
            row.fallback, fallback ? std::optional<std::string>(row.from_fallback) : std::nullopt);
      const Environment environment(changes);
      std::vector<std::string> flags;
      if (flag) flags.push_back(row.flag);
      if (flag && std::string(row.flag).find('=') == std::string::npos)
        flags.push_back(row.from_flag);
      const auto options =
          resolved(file ? std::string(row.key) + ": " + row.from_file + "\n" : "", flags);
      const Setting& setting = options.setting(row.option);
      const std::string spelling = std::string(row.flag).substr(0, std::string(row.flag).find('='));
      CHECK(setting.value == (flag       ? row.from_flag
                              : variable ? row.from_variable
                              : fallback ? row.from_fallback
                              : file     ? row.from_file
                                         : row.initial));
      CHECK(setting.origin == (flag       ? spelling
                               : variable ? std::string(row.variable) + "=" + row.from_variable
                               : fallback ? std::string(row.fallback) + "=" + row.from_fallback
                               : file     ? std::string("f.yaml:1:1")
                                          : std::string("default")));
    }
  }
}

TEST_CASE("options: contradictions name both origins, and a higher layer settles them") {
  const auto clash = [](const std::string& name, const std::vector<std::string>& flags,
                        const std::string& text = "") {
    std::string thrown;
    try {
      resolved(text, flags);
    } catch (const LaunchError& error) {
      thrown = error.what();
      CHECK(error.code() == 2);
    }
    CHECK(compare_error_text(name, thrown) == "");
  };
  clash("options_total", {"--nnodes", "2", "-n", "2", "--num_processes", "5"});
  clash("options_nodes", {"--nnodes", "2", "--num-machines", "3"});
  clash("options_node_rank", {"--nnodes", "2", "--node_rank", "2"});
  clash("options_node_rank_alone", {"--machine_rank", "1"});
  clash("options_endpoint_host", {"--rdzv_endpoint", "a:1", "--main_process_ip", "b"});
  clash("options_endpoint_port", {"--rdzv_endpoint", "a:1", "--master_port", "2"});
  clash("options_standalone", {"--standalone", "--nnodes", "2"});
  clash("options_bind", {"--bind", "core", "--enable_cpu_affinity"});
  clash("options_fewer_ranks", {"--nnodes", "4", "--num_processes", "3"});
  clash("options_fewer_ranks_elastic",
        {"--nnodes", "1:4", "--node_rank", "3", "--num_processes", "2"});
  clash("options_no_log_dir", {"--tee", "3"});
  clash("options_file_ranks", {}, "nproc_per_node: 2\nnum_processes: 3\n");
  clash("options_mask", {"--tee", "0:4", "--log_dir", "x"});
  clash("options_mask_twice", {"--tee", "0:1,0:2", "--log_dir", "x"});
  clash("options_nodes_range", {"--nnodes", "4:2"});
  clash("options_endpoint", {"--rdzv_endpoint", "a b:1"});
  clash("options_endpoint_bracket", {"--rdzv_endpoint", "[::1"});
  clash("options_port", {"--rdzv_endpoint", "a:99999"});
  clash("options_gpu_twice", {"--gpu_ids", "1,1"});
  clash("options_gpu_none", {"--gpu_ids", ""});
  clash("options_filter", {"--local_ranks_filter", "0,x"});
  clash("options_env_unset", {"--env", "WEFT_TEST_UNSET_VARIABLE"});
  clash("options_total_per_host", {"--num_processes", "100000"});

  CHECK(resolved("num_processes: 2\n", {"-n", "4"}).ranks == 4);
  CHECK(resolved("nproc_per_node: 2\n", {"--num_processes", "4"}).ranks == 4);
  CHECK(resolved("num_machines: 2\nmachine_rank: 1\n", {"--standalone"}).nnodes_max == 1);
  CHECK(resolved("standalone: true\n", {"--nnodes", "2"}).nnodes_max == 2);
  CHECK_FALSE(resolved("standalone: true\n", {"--nnodes", "2"}).standalone);
  CHECK_THROWS_AS(resolved("nproc_per_node: 2\nnum_processes: 3\n"), ConfigError);
  CHECK_THROWS_AS(resolved("tee: 3\n"), ConfigError);
  CHECK_THROWS_AS(resolved("env: [RANK=1]\n"), ConfigError);
  CHECK(resolved("main_process_ip: a\nmain_process_port: 1\n", {"--rdzv_endpoint", "b:2"})
            .rdzv_endpoint->host == "b");
  CHECK(resolved("main_process_ip: a\nmain_process_port: 1\n", {"--rdzv_endpoint", "b"})
            .rdzv_endpoint->port == 0);
  CHECK(resolved("rdzv_endpoint: a:1\n", {"--main_process_port", "5"}).rdzv_endpoint->port == 5);
  CHECK(resolved("", {"--nnodes", "2", "-n", "2", "--num_processes", "4"}).ranks == 2);
  // 5 ranks over 2 hosts: the first has one more.
  CHECK(resolved("", {"--nnodes", "2", "--node_rank", "0", "--num_processes", "5"}).ranks == 3);
  CHECK(resolved("", {"--nnodes", "2", "--node_rank", "1", "--num_processes", "5"}).ranks == 2);
}

TEST_CASE("options: variables for the ranks") {
  const Environment environment({std::pair("WEFT_TEST_SET", "here")});
  CHECK(resolved("", {"--env", "A=1", "--env", "WEFT_TEST_SET", "--env", "A=2"}).environment ==
        std::vector<std::string>{"WEFT_TEST_SET=here", "A=2"});
  CHECK(resolved("env: [A=1, B=1]\n", {"--env", "A=3"}).environment ==
        std::vector<std::string>{"B=1", "A=3"});
  const auto result = launch({"--env", "WEFT_TEST_X=a b", kProbe, "env=WEFT_TEST_X"});
  CHECK(result.out == "WEFT_TEST_X=a b\n");
}

TEST_CASE("config files: the default one, WEFT_CONFIG_FILE, and none at all") {
  const TempDir home;
  std::ofstream(home / "default_config.yaml") << "num_processes: 3\ndebug: false\n";
  std::ofstream(home / "other.yaml") << "num_processes: 2\n";
  const std::string variable = "WEFT_HOME=" + home.path().string();
  const auto ranks = [&](std::vector<std::string> flags, std::vector<std::string> variables) {
    variables.push_back(variable);
    flags.insert(flags.end(), {kProbe, "env=WORLD_SIZE"});
    const std::string out = launch(flags, variables).out;
    return count_of(out, "WORLD_SIZE=" + std::to_string(count_of(out, "\n")));
  };
  CHECK(ranks({}, {}) == 3);
  CHECK(ranks({"--cpu"}, {}) == 3);  // which Accelerate takes for a reason to forget the file
  CHECK(ranks({"-n", "2"}, {}) == 2);
  CHECK(ranks({}, {"WEFT_CONFIG_FILE=" + (home / "other.yaml").string()}) == 2);
  CHECK(ranks({"--config_file", home / "other.yaml"}, {}) == 2);
  CHECK(ranks({"--config-file=none"}, {}) == 1);
  {
    const Environment environment({{"WEFT_HOME", std::nullopt}, {"XDG_CACHE_HOME", "/x"}});
    CHECK(default_config_path() == "/x/weft/default_config.yaml");
  }
  // A default file that is a link to nowhere was meant to be read.
  std::filesystem::remove(home / "default_config.yaml");
  CHECK(ranks({}, {}) == 1);
  std::filesystem::create_symlink("nowhere", home / "default_config.yaml");
  CHECK(launch({"-n", "1", kProbe}, {"WEFT_HOME=" + home.path().string()}).exit_code == 2);
  const Environment environment(
      {{"WEFT_HOME", std::nullopt}, {"XDG_CACHE_HOME", "relative"}, {"HOME", "/h"}});
  CHECK(default_config_path() == "/h/.cache/weft/default_config.yaml");
}

TEST_CASE("config files: keys without a meaning are one warning, behind the job's output") {
  const auto job = launch({"--config_file", kConfigs + "cpu2.yaml", kProbe, "exit=3"});
  CHECK(job.exit_code == 3);
  const auto own = own_lines(job.err);
  REQUIRE(own.size() >= 2);
  CHECK(own.front().find("exited with 3") != std::string::npos);
  CHECK(own.back() == "launcher: " + kConfigs +
                          "cpu2.yaml: keys without a meaning here: compute_environment, "
                          "downcast_bf16, main_training_function, same_network, tpu_use_cluster, "
                          "tpu_use_sudo");
  const auto quiet = launch({"--quiet", "--config_file", kConfigs + "cpu2.yaml", kProbe});
  CHECK(quiet.err.empty());
}

TEST_CASE("options: those of other launchers that say nothing here are named in one warning") {
  const auto job = launch({"--no_python", "--same-network", "--monitor_interval", "0.1",
                           "--dynamo_backend=no", kProbe, "exit=0"});
  CHECK(job.exit_code == 0);
  CHECK(job.err ==
        "launcher: options without a meaning here: --no_python, --same-network, "
        "--monitor_interval, --dynamo_backend\n");
}

TEST_CASE("options: torchrun's variables are read as a fallback") {
  const Environment environment({{"PET_NPROC_PER_NODE", "3"},
                                 {"PET_NNODES", "1:2"},
                                 {"PET_NODE_RANK", "1"},
                                 {"PET_MASTER_ADDR", "node0"},
                                 {"PET_MASTER_PORT", "2000"},
                                 {"WEFT_NODE_RANK", std::nullopt}});
  const auto options = resolved("");
  CHECK(options.ranks == 3);
  CHECK(options.origin("nproc_per_node") == "PET_NPROC_PER_NODE=3");
  CHECK(options.nnodes_max == 2);
  CHECK(options.node_rank == 1);
  CHECK(options.rdzv_endpoint->host == "node0");
  CHECK(options.rdzv_endpoint->port == 2000);
  CHECK(resolved("", {"--shutdown_timeout", "4"}).grace == 4);
  CHECK(resolved("", {"-n", "cpu"}).ranks >= 1);
  CHECK_THROWS_AS(resolved("", {"-n", "gpu"}), LaunchError);
}

TEST_CASE("options: MASTER_ADDR and MASTER_PORT tell where hosts meet, below other variables") {
  const std::string file = "main_process_ip: file\nmain_process_port: 1\n";
  const auto endpoint = [](const LaunchOptions& options) {
    return options.rdzv_endpoint
               ? options.rdzv_endpoint->host + ":" + std::to_string(options.rdzv_endpoint->port)
               : "";
  };
  const Environment environment({{"MASTER_ADDR", "master"}, {"MASTER_PORT", "2"}});
  const auto alone = resolved("");
  CHECK(endpoint(alone) == "master:2");
  CHECK(alone.origin("main_process_ip") == "MASTER_ADDR=master");
  CHECK(alone.origin("main_process_port") == "MASTER_PORT=2");
  CHECK_FALSE(alone.endpoint_given);
  const auto over_file = resolved(file);
  CHECK(endpoint(over_file) == "master:2");
  CHECK(over_file.endpoint_given);
  const auto below_flag = resolved(file, {"--main_process_ip", "flag"});
  CHECK(endpoint(below_flag) == "flag:2");
  CHECK(below_flag.endpoint_given);
  CHECK(endpoint(resolved(file, {"--rdzv_endpoint", "flag"})) == "flag:0");
  {
    const Environment own({{"WEFT_MAIN_PROCESS_IP", "own"}, {"PET_MASTER_PORT", "3"}});
    CHECK(endpoint(resolved(file)) == "own:3");
  }
  {
    const Environment whole({{"WEFT_RDZV_ENDPOINT", "own:4"},
                             {"WEFT_MAIN_PROCESS_IP", std::nullopt}});  // contradicts nothing
    CHECK(endpoint(resolved("")) == "own:4");
  }
  // Jobs to which they say nothing: one that starts its launchers by ssh, one that stays here.
  const auto hosts = resolved(file, {"--hostfile", "hosts"});
  CHECK(endpoint(hosts) == "file:1");
  CHECK(hosts.origin("main_process_ip") == "f.yaml:1:1");
  CHECK(endpoint(resolved("", {"--hostfile", "hosts"})).empty());
  CHECK(resolved("", {"--standalone"}).origin("main_process_ip") == "default");
  // What means something else entirely, such as an address of Kubernetes, harms many hosts alone.
  const Environment odd({{"MASTER_ADDR", "master"}, {"MASTER_PORT", "tcp://10.0.0.1:80"}});
  CHECK(endpoint(resolved("")) == "master:0");
  CHECK(launch({kProbe, "env=WORLD_SIZE"}).out == "WORLD_SIZE=1\n");
  const auto refused = launch({"--nnodes", "2", kProbe});
  CHECK(refused.exit_code == 2);
  CHECK(compare_error_text("options_master_port", refused.err) == "");
}
