// What options may say, but this version cannot do.
#include <algorithm>
#include <filesystem>

#include <weft/core/base/check.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/option_values.hpp>

namespace weft::inline v0::launcher {

namespace {

struct Problem {
  const Setting* setting;
  std::string why, remedy;
};

/// The value as the table writes it, so that `Off` and `false` compare equal.
std::string canonical(const Setting& setting) {
  switch (setting.option->kind) {
    case Kind::flag:
    case Kind::boolean: return read_flag(setting) ? "true" : "false";
    case Kind::choice: return read_choice(setting);
    case Kind::real: return fmt::format("{:g}", read_real(setting));
    default: return setting.value;
  }
}

bool is_neutral(const Setting& setting) {
  const std::vector<std::string> neutral = split(setting.option->neutral, '|');
  return std::find(neutral.begin(), neutral.end(), canonical(setting)) != neutral.end();
}

std::string remedy_for(const Setting& setting) {
  const std::vector<std::string> neutral = split(setting.option->neutral, '|');
  if (name_of(*setting.option) == "distributed_type") return "set it to MULTI_CPU or NO";
  const std::string without = neutral.empty() ? "" : " or set it to " + neutral[0];
  switch (setting.layer) {
    case Layer::flag: return fmt::format("leave out {}{}", setting.spelling, without);
    case Layer::environment: return fmt::format("unset {}{}", setting.spelling, without);
    case Layer::config: return fmt::format("remove the line{}", without);
    case Layer::initial: break;
  }
  return {};
}

size_t count_gpus() {
  std::error_code error;
  size_t count = 0;
  for (std::filesystem::directory_iterator it("/proc/driver/nvidia/gpus", error), end;
       !error && it != end; it.increment(error))
    ++count;
  return count;
}

std::string no_gpu_text() {
  const size_t count = count_gpus();
  return count == 0 ? "this host has no GPU"
                    : fmt::format(
                          "this version computes on CPUs alone and does not use the {} GPUs "
                          "of this host",
                          count);
}

std::vector<Problem> problems_of(const LaunchOptions& options) {
  std::vector<Problem> problems;
  const auto no_gpu = [&](const Setting& setting) {
    problems.push_back({&setting, no_gpu_text(),
                        "to run on its CPUs give --cpu, or set use_cpu: "
                        "true"});
  };
  const Setting& type = options.setting("distributed_type");
  const std::string kind = type.value.empty() ? "NO" : canonical(type);
  if (!options.cpu) {
    if (kind.starts_with("MULTI_") && kind != "MULTI_CPU") no_gpu(type);
    if (read_flag(options.setting("multi_gpu"))) no_gpu(options.setting("multi_gpu"));
    if (options.gpu_ids) no_gpu(options.setting("gpu_ids"));
  }
  const auto later = [&](const Setting& setting, const char* feature) {
    problems.push_back(
        {&setting, fmt::format("{} comes with a later version", feature), remedy_for(setting)});
  };
  for (const char* name : {"DEEPSPEED", "FSDP", "XLA", "MEGATRON_LM"})
    if (kind == name)
      later(type, kind == "DEEPSPEED" ? "ZeRO"
                  : kind == "FSDP"    ? "sharded data parallelism"
                                      : "what this type stands for");
  for (const Setting& setting : options.settings)
    if (setting.option->later != nullptr && setting.layer != Layer::initial && !is_neutral(setting))
      later(setting, setting.option->later);
  return problems;
}

}  // namespace

void refuse_unsupported(const LaunchOptions& options) {
  const std::vector<Problem> problems = problems_of(options);
  if (problems.empty()) return;
  const Problem& first = problems[0];
  std::string text = fmt::format("{}: {}; {}", shown(*first.setting), first.why, first.remedy);
  for (size_t i = 1; i < problems.size(); ++i) {
    const Setting& setting = *problems[i].setting;
    text += fmt::format("{}{} {} ({})", i == 1 ? ". Not in this version either: " : ", ",
                        name_of(*setting.option), setting.value, setting.origin);
  }
  if (first.setting->layer == Layer::config) throw ConfigError(text);
  throw LaunchError(kExitUsage, text);
}

}  // namespace weft::inline v0::launcher
