#include <weft/launcher/config_questions.hpp>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/launcher/config_write.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/option_values.hpp>

namespace weft::inline v0::launcher {

namespace {

class Interview {
 public:
  Interview(Asker& asker, yaml::Node& document) : asker_(asker), document_(document) {}

  void run() {
    const std::string type = ask_type();
    ask_hosts(type);
    ask_ranks(type);
    ask_threads();
    choose("mixed_precision", "Which precision does training compute in?",
           "no: the model's own types. Others load and show, but do not start in this version.",
           {{"no", "no: the model's own types"},
            {"bf16", "bf16: bfloat16 (in a later version)"},
            {"fp16", "fp16: half precision with scaled losses (in a later version)"},
            {"fp8", "fp8: 8-bit matrix products (in a later version)"}},
           "no");
    value("gradient_accumulation_steps", "How many micro-batches make one step?",
          "Their gradients add up; a number in the program goes before this one.", "1");
    ask_partition(type);
    value("max_restarts", "How often may a failed job start anew?",
          "The program finds its newest checkpoint itself.", "0");
    value("log_dir", "Which folder keeps the output of each rank?",
          "A file for each rank and stream; none: the terminal alone.", "none");
    choose("debug", "Should launcher and ranks log more?", "For the search of faults.",
           {{"false", "no"}, {"true", "yes"}}, "false");
  }

 private:
  /// What the document has for the key, or `fallback`.
  std::string current(const ConfigKey& key, const std::string& fallback) const {
    for (const Setting& setting : read_config(document_, "answers").settings)
      if (setting.option == key.option && !setting.value.empty()) return setting.value;
    return fallback;
  }

  static ConfigKey key(const std::string& name) { return key_to_set(name); }
  void set(const std::string& name, const std::string& text) {
    set_value(document_, key(name), text);
  }

  std::string choose(const std::string& name, const std::string& question,
                     const std::string& explanation, const std::vector<Choice>& choices,
                     const std::string& fallback) {
    const std::string before = current(key(name), fallback);
    size_t initial = 0;
    for (size_t i = 0; i < choices.size(); ++i)
      if (choices[i].value == before) initial = i;
    const std::string answer = asker_.choose(question, explanation, choices, initial);
    set(name, answer);
    return answer;
  }

  /// A value of the option's kind; "none" leaves the key out.
  std::string value(const std::string& name, const std::string& question,
                    const std::string& explanation, const std::string& fallback) {
    const ConfigKey where = key(name);
    const std::string answer =
        asker_.ask(question, explanation, current(where, fallback), [&](const std::string& text) {
          if (text == "none" && fallback == "none") return std::string();
          try {
            check_value({.option = where.option,
                         .value = text,
                         .layer = Layer::environment,
                         .origin = text.empty() ? "an empty answer" : text});
          } catch (const LaunchError& error) {
            return std::string(error.what());
          }
          return text.empty() ? std::string("an answer is needed") : std::string();
        });
    set_value(document_, where, answer == "none" && fallback == "none" ? "" : answer);
    return answer;
  }

  std::string ask_type() {
    const std::string before = current(key("distributed_type"), "MULTI_CPU");
    const std::string type = asker_.choose(
        "What does training run on?", "Ranks are processes that train one model together.",
        {{"MULTI_CPU", "several ranks on CPUs"},
         {"NO", "one process"},
         {"MULTI_GPU", "several ranks on GPUs (in a later version)"}},
        before == "NO"          ? 1
        : before == "MULTI_GPU" ? 2
                                : 0);
    set("distributed_type", type);
    set("use_cpu", type == "MULTI_GPU" ? "false" : "true");
    if (type == "MULTI_GPU")
      value("gpu_ids", "Which GPUs of this host?", "all, or their numbers such as 0,1.", "all");
    else
      set("gpu_ids", "");
    return type;
  }

  void ask_hosts(const std::string& type) {
    const std::string hosts =
        type == "NO"
            ? "1"
            : value("num_machines", "How many hosts?",
                    "Each runs some of the ranks; SLURM and mpirun are found by themselves.", "1");
    set("num_machines", hosts);
    if (hosts == "1") {
      for (const char* name : {"machine_rank", "main_process_ip", "main_process_port", "hostfile"})
        set(name, "");
      return;
    }
    const std::string way = asker_.choose(
        "How are they started?", "By hand or a script on each of them, or from here through ssh.",
        {{"by hand", "the same command on each host"},
         {"ssh", "from this host through ssh, by a hostfile"}},
        current(key("hostfile"), "").empty() ? 0 : 1);
    if (way == "ssh") {
      value("hostfile", "Where is the hostfile?", "Lines HOST slots=N.", "hostfile");
      for (const char* name : {"machine_rank", "main_process_ip", "main_process_port"})
        set(name, "");
      return;
    }
    set("hostfile", "");
    value("machine_rank", "What is the number of this host?", "From 0; --node_rank goes before it.",
          "0");
    value("main_process_ip", "What is the address of host 0?", "As the other hosts reach it.", "");
    value("main_process_port", "Which port of host 0?", "One that is free, and open to the others.",
          "29500");
  }

  void ask_ranks(const std::string& type) {
    if (type == "NO") return set("num_processes", "1");
    value("num_processes", "How many ranks over all hosts?",
          "One for each core is usual on CPUs, one for each GPU otherwise.",
          fmt::format("{}", automatic_ranks(1)));
  }

  void ask_threads() {
    value("num_cpu_threads_per_process", "How many threads for each rank?",
          "none: the ranks of a host share its cores.", "none");
    choose("bind", "Should ranks stay on cores of their own?",
           "Fewer moves between cores, where nobody else computes on the host.",
           {{"none", "no: wherever the kernel puts them"},
            {"core", "yes: each on its share of the cores"},
            {"numa", "each on one NUMA node"}},
           "none");
  }

  void ask_partition(const std::string& type) {
    const std::string before = current(key("distributed_type"), type);
    const bool had_zero = !current(key("zero_stage"), "").empty();
    const std::string way =
        asker_.choose("Should the training state be partitioned over the ranks?",
                      "It loads and shows; starting a program with it is an error in this version.",
                      {{"no", "no: each rank has all of it"},
                       {"zero", "ZeRO (deepspeed_config; in a later version)"},
                       {"fsdp", "sharded data parallelism (fsdp_config; in a later version)"}},
                      had_zero           ? 1
                      : before == "FSDP" ? 2
                                         : 0);
    if (way != "zero") drop_section("deepspeed_config");
    if (way != "fsdp") drop_section("fsdp_config");
    if (way == "zero") ask_zero();
    if (way == "fsdp") ask_fsdp();
  }

  void drop_section(const std::string& name) {
    std::erase_if(document_.entries, [&](const yaml::Entry& entry) { return entry.key == name; });
  }

  void ask_zero() {
    set("distributed_type", "DEEPSPEED");
    const std::string stage = choose(
        "zero_stage", "What is partitioned?", "Each stage includes those before.",
        {{"1", "1: optimizer state"}, {"2", "2: and gradients"}, {"3", "3: and weights"}}, "2");
    const std::vector<Choice> places = {
        {"none", "where it is computed"}, {"cpu", "host memory"}, {"nvme", "files on a fast disk"}};
    if (choose("offload_optimizer_device", "Where does the optimizer state lie?",
               "Outside of the GPU it leaves room for the model.", places, "none") == "nvme")
      value("offload_optimizer_nvme_path", "In which folder?", "On the fast disk.", "/nvme");
    if (stage == "3" && choose("offload_param_device", "Where do weights lie?",
                               "They are fetched when they are needed.", places, "none") == "nvme")
      value("offload_param_nvme_path", "In which folder?", "On the fast disk.", "/nvme");
    value("gradient_clipping", "What is the largest norm of the gradients?", "none: any.", "none");
  }

  void ask_fsdp() {
    set("distributed_type", "FSDP");
    set("fsdp_version", "2");
    choose("fsdp_reshard_after_forward", "Are gathered weights dropped after the forward pass?",
           "Less memory, more traffic.", {{"true", "yes"}, {"false", "no"}}, "true");
    choose("fsdp_offload_params", "Do shards lie in host memory?", "Slower, with room for more.",
           {{"false", "no"}, {"true", "yes"}}, "false");
    const std::string policy =
        choose("fsdp_auto_wrap_policy", "What becomes a unit that is gathered at once?",
               "A layer is usual.",
               {{"TRANSFORMER_BASED_WRAP", "modules by their class"},
                {"SIZE_BASED_WRAP", "modules above a size"},
                {"NO_WRAP", "the whole model"}},
               "TRANSFORMER_BASED_WRAP");
    if (policy == "TRANSFORMER_BASED_WRAP")
      value("fsdp_transformer_layer_cls_to_wrap", "Which classes?", "With commas in between.",
            "Block");
    if (policy == "SIZE_BASED_WRAP")
      value("fsdp_min_num_params", "From how many parameters?", "Of a unit.", "1e8");
    choose("fsdp_activation_checkpointing", "Are activations computed again in the backward pass?",
           "Less memory, a third more work.", {{"false", "no"}, {"true", "yes"}}, "false");
  }

  Asker& asker_;
  yaml::Node& document_;
};

}  // namespace

void ask_questions(Asker& asker, yaml::Node& document) { Interview(asker, document).run(); }

void fill_with_defaults(yaml::Node& document, const std::string& mixed_precision) {
  const std::pair<const char*, std::string> values[] = {{"debug", "false"},
                                                        {"distributed_type", "NO"},
                                                        {"enable_cpu_affinity", "false"},
                                                        {"machine_rank", "0"},
                                                        {"mixed_precision", mixed_precision},
                                                        {"num_machines", "1"},
                                                        {"num_processes", "1"},
                                                        {"rdzv_backend", "static"},
                                                        {"use_cpu", "true"}};
  for (const auto& [name, value] : values) set_value(document, key_to_set(name), value);
}

}  // namespace weft::inline v0::launcher
