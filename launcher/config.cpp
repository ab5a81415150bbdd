#include <weft/launcher/config.hpp>

#include <sys/stat.h>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/base/nearest.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/option_values.hpp>

namespace weft::inline v0::launcher {

namespace {

struct SectionRow {
  const char* name;
  const char* prefix;  // of its keys, which a file may leave out
};

constexpr SectionRow kSections[] = {
    {"fsdp_config", "fsdp_"},
    {"deepspeed_config", ""},
    {"fp8_config", "fp8_"},
    {"parallelism_config", "parallelism_config_"},
    {"megatron_lm_config", "megatron_lm_"},
    {"mpirun_config", "mpirun_"},
    {"dynamo_config", "dynamo_"},
    {"ipex_config", ""},
    {"tp_config", ""},
};

/// Keys that Accelerate writes and that say nothing to native programs.
constexpr const char* kIgnored[] = {
    "compute_environment",
    "main_training_function",
    "downcast_bf16",
    "same_network",
    "tpu_name",
    "tpu_zone",
    "tpu_use_cluster",
    "tpu_use_sudo",
    "tpu_vm",
    "tpu_env",
    "command_file",
    "commands",
    "dynamo_backend",
    "dynamo_config.dynamo_backend",
    "dynamo_config.dynamo_mode",
    "dynamo_config.dynamo_use_dynamic",
    "dynamo_config.dynamo_use_fullgraph",
    "dynamo_config.dynamo_use_regional_compilation",
    "ipex_config.ipex",
    "ipex_config.use_xpu",
    "mpirun_config.mpirun_ccl",
    "deepspeed_config.deepspeed_multinode_launcher",
    "fp8_config.fp8_backend",
    "fp8_config.fp8_opt_level",
    "fp8_config.fp8_optimization_level",
};

const char* prefix_of(std::string_view section) {
  for (const SectionRow& row : kSections)
    if (section == row.name) return row.prefix;
  return "";
}

/// "section.key" apart; a top-level key has no section.
std::pair<std::string, std::string> parts_of(std::string_view full) {
  const size_t dot = full.find('.');
  if (dot == std::string_view::npos) return {"", std::string(full)};
  return {std::string(full.substr(0, dot)), std::string(full.substr(dot + 1))};
}

/// Every key that a file may have, in `section`.
std::vector<ConfigKey> keys_in(std::string_view section) {
  std::vector<ConfigKey> keys;
  const auto add = [&](std::string_view full, const Option* option) {
    auto [of, name] = parts_of(full);
    if (of == section) keys.push_back({std::move(of), std::move(name), option});
  };
  for (const Option& option : option_table())
    for (const std::string& key : keys_of(option)) add(key, &option);
  for (const char* key : kIgnored) add(key, nullptr);
  return keys;
}

template <class... Args>
[[noreturn]] void refuse(const std::string& path, yaml::Place place,
                         fmt::format_string<Args...> text, Args&&... args) {
  throw ConfigError(fmt::format("{}:{}:{}: {}", path, place.line, place.column,
                                fmt::format(text, std::forward<Args>(args)...)));
}

const char* expected_by(const Option& option) {
  switch (option.kind) {
    case Kind::flag:
    case Kind::boolean: return "true or false";
    case Kind::integer: return "a whole number";
    case Kind::real: return "a number";
    case Kind::seconds:
    case Kind::period: return "a number of seconds";
    case Kind::ranks: return "a whole number, or auto";
    case Kind::nodes: return "a number of hosts, or MIN:MAX";
    case Kind::endpoint: return "HOST:PORT";
    case Kind::choice: return "one of its words";
    case Kind::mask: return "a number from 0 to 3, or RANK:MASK,...";
    case Kind::integers: return "a list of whole numbers";
    case Kind::gpus: return "all, or a list of numbers";
    case Kind::variable: return "a list of NAME=VALUE, or a map";
    case Kind::text: return "a text";
  }
  return "";
}

class Reader {
 public:
  explicit Reader(const std::string& path) { file_.path = path; }

  ConfigFile read(const yaml::Node& root) {
    if (root.kind == yaml::Node::Kind::null) return std::move(file_);
    if (root.kind != yaml::Node::Kind::map)
      refuse(file_.path, root.place,
             "a {} where keys with values are expected, such as "
             "num_processes: 2",
             yaml::kind_name(root.kind));
    for (const yaml::Entry& entry : root.entries) {
      if (is_section(entry.key))
        read_section(entry);
      else
        read_key("", entry);
    }
    return std::move(file_);
  }

 private:
  void read_section(const yaml::Entry& section) {
    const yaml::Node& value = section.value;
    if (value.kind == yaml::Node::Kind::null) return;
    if (value.kind != yaml::Node::Kind::map)
      refuse(file_.path, value.place, "{}: keys with values are expected below it, not a {}",
             section.key, yaml::kind_name(value.kind));
    for (const yaml::Entry& entry : value.entries) read_key(section.key, entry);
  }

  void read_key(const std::string& section, const yaml::Entry& entry) {
    if (section.empty() && entry.key == "fp16") return read_fp16(entry);
    const auto key = find_key(section, entry.key);
    if (!key) refuse(file_.path, entry.place, "{}", unknown_key_text(section, entry.key));
    if (entry.key == "compute_environment" && entry.value.text != "LOCAL_MACHINE" &&
        entry.value.kind != yaml::Node::Kind::null)
      refuse(file_.path, entry.value.place,
             "compute_environment: {}: LOCAL_MACHINE alone can be launched on", entry.value.text);
    if (key->option == nullptr)
      file_.ignored.push_back(key->full());
    else if (key->option->kind == Kind::variable)
      read_variables(*key, entry);
    else
      read_value(*key, entry);
  }

  /// `fp16: true`, from before mixed_precision, which goes before it.
  void read_fp16(const yaml::Entry& entry) {
    const Option& option = option_named("mixed_precision");
    Setting setting = make(option, entry, entry.value, entry.value.text);
    const auto truth = truth_of(setting.value);
    if (!truth) refuse(file_.path, entry.value.place, "fp16: true or false is expected");
    setting.value = *truth ? "fp16" : "no";
    legacy_ = std::move(setting);
    if (std::none_of(file_.settings.begin(), file_.settings.end(),
                     [&](const Setting& other) { return other.option == &option; }))
      file_.settings.push_back(*legacy_);
  }

  Setting make(const Option& option, const yaml::Entry& entry, const yaml::Node& value,
               std::string text) const {
    const auto at = [&](yaml::Place place) {
      return fmt::format("{}:{}:{}", file_.path, place.line, place.column);
    };
    return {.option = &option,
            .value = std::move(text),
            .layer = Layer::config,
            .origin = at(entry.place),
            .spelling = entry.key,
            .place = at(value.place)};
  }

  void read_value(const ConfigKey& key, const yaml::Entry& entry) {
    const Option& option = *key.option;
    const yaml::Node& value = entry.value;
    if (value.kind == yaml::Node::Kind::null) return;
    std::string text = value.text;
    const bool list =
        option.kind == Kind::gpus || option.kind == Kind::integers || option.kind == Kind::text;
    if (value.kind == yaml::Node::Kind::list && list) {
      for (const yaml::Node& item : value.items) {
        if (item.kind != yaml::Node::Kind::scalar) wrong_kind(entry, item, "a text");
        text += (text.empty() ? "" : ",") + item.text;
      }
      if (text.empty()) return;
    } else if (value.kind != yaml::Node::Kind::scalar) {
      wrong_kind(entry, value, expected_by(option));
    }
    if (!asks_for_something(key, text)) return;
    Setting setting = make(option, entry, value, std::move(text));
    check_value(setting);
    add(std::move(setting));
  }

  /// Values by which Accelerate leaves a key to others: -1 ranks are given on the command line,
  /// "auto" is the program's business, "" and None are nothing.
  static bool asks_for_something(const ConfigKey& key, const std::string& text) {
    if (key.name == "num_processes" && text == "-1") return false;
    if (key.section == "deepspeed_config" && text == "auto") return false;
    return !text.empty() && text != "None";
  }

  [[noreturn]] void wrong_kind(const yaml::Entry& entry, const yaml::Node& value,
                               const char* expected) const {
    refuse(file_.path, value.place, "{}: {} is expected, not a {}", entry.key, expected,
           yaml::kind_name(value.kind));
  }

  void add(Setting setting) {
    for (Setting& known : file_.settings) {
      if (known.option != setting.option) continue;
      if (legacy_ && known.spelling == legacy_->spelling) {
        known = std::move(setting);
        return;
      }
      if (known.value != setting.value)
        throw ConfigError(fmt::format("{} contradicts {}: they mean the same; remove one of them",
                                      shown(setting), shown(known)));
      return;
    }
    file_.settings.push_back(std::move(setting));
  }

  void read_variables(const ConfigKey& key, const yaml::Entry& entry) {
    const auto take = [&](const yaml::Node& node, std::string text) {
      Setting setting = make(*key.option, entry, node, std::move(text));
      check_value(setting);
      file_.settings.push_back(std::move(setting));
    };
    const yaml::Node& value = entry.value;
    if (value.kind == yaml::Node::Kind::scalar) take(value, value.text);
    for (const yaml::Node& item : value.items) {
      if (item.kind != yaml::Node::Kind::scalar) wrong_kind(entry, item, "NAME=VALUE");
      take(item, item.text);
    }
    for (const yaml::Entry& item : value.entries) {
      if (item.value.kind == yaml::Node::Kind::list || item.value.kind == yaml::Node::Kind::map)
        wrong_kind(item, item.value, "a text");
      take(item.value, item.key + "=" + item.value.text);
    }
  }

  ConfigFile file_;
  std::optional<Setting> legacy_;
};

}  // namespace

bool is_section(std::string_view name) {
  return std::any_of(std::begin(kSections), std::end(kSections),
                     [&](const SectionRow& row) { return name == row.name; });
}

std::optional<ConfigKey> find_key(std::string_view section, std::string_view name) {
  const std::string prefixed = prefix_of(section) + std::string(name);
  std::optional<ConfigKey> found;
  for (ConfigKey& key : keys_in(section)) {
    if (key.name == name) return std::move(key);
    if (key.name == prefixed) found = std::move(key);
  }
  return found;
}

std::string unknown_key_text(std::string_view section, const std::string& name) {
  const std::string shown_name = name.substr(0, 100);
  for (const SectionRow& row : kSections) {
    if (section.empty() && find_key(row.name, name))
      return fmt::format("unknown key '{}', did you mean '{}' below {}?", shown_name, shown_name,
                         row.name);
  }
  if (!section.empty() && find_key("", name))
    return fmt::format("unknown key '{}' in {}, did you mean '{}' at the top level?", shown_name,
                       section, shown_name);
  const std::string_view prefix = prefix_of(section);
  std::vector<std::string> candidates;
  for (const ConfigKey& key : keys_in(section)) {
    candidates.push_back(key.name);
    if (!prefix.empty() && key.name.starts_with(prefix) && !name.starts_with(prefix.substr(0, 3)))
      candidates.push_back(key.name.substr(prefix.size()));
  }
  if (section.empty()) {
    for (const SectionRow& row : kSections) candidates.push_back(row.name);
  }
  // A part of a key's name means that key, though others have more letters in common.
  std::vector<std::string> longer;
  for (const std::string& candidate : candidates)
    if (name.size() > 2 && candidate.find(name) != std::string::npos) longer.push_back(candidate);
  if (!longer.empty()) candidates = std::move(longer);
  return fmt::format("unknown key '{}'{}, did you mean '{}'?", shown_name,
                     section.empty() ? "" : fmt::format(" in {}", section),
                     detail::nearest(shown_name, candidates));
}

ConfigKey key_of(const std::string& text) {
  const auto [section, name] = parts_of(text);
  if (!section.empty() && !is_section(section)) {
    std::vector<std::string> sections;
    for (const SectionRow& row : kSections) sections.push_back(row.name);
    throw LaunchError(kExitUsage, fmt::format("unknown section '{}', did you mean '{}'?", section,
                                              detail::nearest(section, sections)));
  }
  if (auto key = find_key(section, name)) return *key;
  if (section.empty() && is_section(name))
    throw LaunchError(kExitUsage, fmt::format("{}: holds keys of its own; name one, such as {}.{}",
                                              name, name, keys_in(name).front().name));
  if (section.empty() && name == "fp16")
    throw LaunchError(kExitUsage, "fp16: is written mixed_precision=fp16 today");
  if (section.empty())
    for (const SectionRow& row : kSections)
      if (auto key = find_key(row.name, name)) return *key;
  throw LaunchError(kExitUsage, unknown_key_text(section, name));
}

ConfigKey key_to_set(const std::string& text) {
  ConfigKey key = key_of(text);
  if (!key.section.empty() || key.option == nullptr || key.option->later == nullptr) return key;
  for (const std::string& full : keys_of(*key.option)) {
    auto [section, name] = parts_of(full);
    if (!section.empty()) return {std::move(section), std::move(name), key.option};
  }
  return key;
}

ConfigFile read_config(const yaml::Node& root, const std::string& path) {
  return Reader(path).read(root);
}

ConfigFile parse_config(std::string_view text, const std::string& path) {
  try {
    return read_config(yaml::parse(text, path), path);
  } catch (const FormatError& error) {
    throw ConfigError(error.what());
  }
}

ConfigFile load_config(const std::string& path) {
  try {
    return read_config(yaml::read_file(path), path);
  } catch (const FormatError& error) {
    throw ConfigError(error.what());
  } catch (const IoError& error) {
    throw LaunchError(kExitUsage, error.what());
  }
}

std::string home_folder() {
  if (const auto home = env::get("WEFT_HOME")) return *home;
  const auto cache = env::get("XDG_CACHE_HOME");
  if (cache && cache->starts_with('/')) return *cache + "/weft";
  if (const auto home = env::get("HOME")) return *home + "/.cache/weft";
  return {};
}

std::string default_config_path() {
  const std::string folder = home_folder();
  return folder.empty() ? folder : folder + "/default_config.yaml";
}

std::optional<ConfigFile> find_config(const CommandLine& line) {
  std::optional<std::string> path = env::get("WEFT_CONFIG_FILE");
  for (const GivenFlag& given : line.flags)
    if (given.option == &option_named("config_file")) path = given.value;
  if (path) {
    if (path->empty())
      throw LaunchError(kExitUsage, "--config_file=: a file's name is missing; none: no file");
    if (*path == "none") return std::nullopt;
    return load_config(*path);
  }
  const std::string usual = default_config_path();
  struct stat info {};
  // A link that leads nowhere is there, and not what its author meant.
  if (usual.empty() || ::lstat(usual.c_str(), &info) != 0) return std::nullopt;
  return load_config(usual);
}

std::string ignored_text(const ConfigFile& file) {
  std::string text;
  for (const std::string& key : file.ignored) text += (text.empty() ? "" : ", ") + key;
  return text.empty() ? text : fmt::format("{}: keys without a meaning here: {}", file.path, text);
}

LaunchOptions resolve_all(const CommandLine& line, bool needs_command) {
  const auto file = find_config(line);
  LaunchOptions options =
      resolve(line, file ? file->settings : std::vector<Setting>(), needs_command);
  std::string idle;
  for (const GivenFlag& given : line.flags)
    if (given.option->section == Section::idle) idle += (idle.empty() ? "" : ", ") + given.spelling;
  if (!idle.empty())
    options.warnings.push_back("launcher: options without a meaning here: " + idle);
  if (!file) return options;
  options.config_file = file->path;
  if (const std::string text = ignored_text(*file); !text.empty())
    options.warnings.push_back("launcher: " + text);
  return options;
}

}  // namespace weft::inline v0::launcher
