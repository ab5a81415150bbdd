// What the user has set: variables and configuration.
#include <algorithm>
#include <cctype>
#include <set>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/launcher/command_line.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/programs/env/facts.hpp>

namespace weft::inline v0::env_report {

namespace {

constexpr const char* kPrefixes[] = {
    "WEFT_", "ACCELERATE_", "TORCHELASTIC_",  "SLURM_", "SLURMD_", "OMPI_",   "PMIX_", "PMI_",
    "MV2_",  "PRTE_",       "OMP_",           "KMP_",   "GOMP_",   "MKL_",    "DNNL_", "ONEDNN_",
    "TBB_",  "CUDA_",       "NVIDIA_VISIBLE", "NCCL_",  "GLOO_",   "MALLOC_", "FSDP_"};
constexpr const char* kNames[] = {"RANK",
                                  "LOCAL_RANK",
                                  "WORLD_SIZE",
                                  "LOCAL_WORLD_SIZE",
                                  "GROUP_RANK",
                                  "GROUP_WORLD_SIZE",
                                  "MASTER_ADDR",
                                  "MASTER_PORT",
                                  "RESTART_COUNT",
                                  "PATH",
                                  "LD_LIBRARY_PATH",
                                  "LD_PRELOAD",
                                  "HOME",
                                  "TMPDIR",
                                  "XDG_CACHE_HOME",
                                  "LANG",
                                  "LC_ALL",
                                  "TERM",
                                  "NO_COLOR",
                                  "GLIBC_TUNABLES"};
constexpr const char* kSecrets[] = {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "KEY"};

bool is_relevant(const std::string& name) {
  return std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](const char* prefix) { return name.starts_with(prefix); }) ||
         std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

}  // namespace

std::string masked(const std::string& name, const std::string& value) {
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  // The file with the secret may be named; a value that is a NAME=VALUE of its own is looked at
  // too.
  const bool secret = !upper.ends_with("_FILE") &&
                      std::any_of(std::begin(kSecrets), std::end(kSecrets), [&](const char* word) {
                        return upper.find(word) != std::string::npos;
                      });
  if (secret && !value.empty()) return fmt::format("(set, {} characters)", value.size());
  const size_t equals = value.find('=');
  if (equals != std::string::npos && equals > 0)
    return value.substr(0, equals + 1) + masked(value.substr(0, equals), value.substr(equals + 1));
  return value;
}

Section variable_section(const std::vector<std::string>& environment) {
  Section section{"variables"};
  std::set<std::string> known;
  for (const env::Variable& variable : env::known_variables()) known.insert(variable.name);
  std::vector<std::string> sorted = environment;
  std::sort(sorted.begin(), sorted.end());
  for (const std::string& entry : sorted) {
    const std::string name = entry.substr(0, entry.find('='));
    if (entry.size() == name.size() || (!is_relevant(name) && known.count(name) == 0)) continue;
    section.add(name, masked(name, entry.substr(name.size() + 1)));
  }
  try {
    const dist::Place place = dist::place_from_environment();
    section.add("as a program sees them",
                place.source == "alone"
                    ? "a process alone"
                    : fmt::format("rank {} of {}, by {}", place.rank, place.size, place.source));
  } catch (const Error& error) {
    section.add("as a program sees them", error.what());
  }
  return section;
}

Section config_section(const std::string& config_file) {
  Section section{"configuration"};
  launcher::CommandLine line;
  if (!config_file.empty()) {
    line = launcher::parse_command_line({"--config_file", config_file});
  }
  const std::string path = launcher::default_config_path();
  try {
    const auto file = launcher::find_config(line);
    section.add("file",
                file ? file->path : "not found: " + (path.empty() ? "no home folder" : path));
    if (file)
      if (const std::string text = launcher::ignored_text(*file); !text.empty())
        section.add("without a meaning here", text);
    const launcher::LaunchOptions options = launcher::resolve_all(line, false);
    for (const launcher::Setting& setting : options.settings)
      if (setting.layer != launcher::Layer::initial)
        section.add(
            launcher::name_of(*setting.option),
            fmt::format("{} ({})", masked(launcher::name_of(*setting.option), setting.value),
                        masked("", setting.origin)));
  } catch (const Error& error) {
    section.add("problem", error.what());
  }
  return section;
}

}  // namespace weft::inline v0::env_report
