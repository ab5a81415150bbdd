#include <weft/launcher/config_write.hpp>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include <weft/core/base/check.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/option_values.hpp>

namespace weft::inline v0::launcher {

namespace {

using yaml::Entry;
using yaml::Node;

Node scalar_node(const Option* option, const std::string& text) {
  Node node;
  node.kind = Node::Kind::scalar;
  node.text = text;
  const bool bare =
      option != nullptr && (option->kind == Kind::integer || option->kind == Kind::real ||
                            option->kind == Kind::seconds || option->kind == Kind::period);
  node.quoted = !bare;
  if (option != nullptr && (option->kind == Kind::flag || option->kind == Kind::boolean)) {
    if (const auto truth = truth_of(text)) node.text = *truth ? "true" : "false";
    node.quoted = false;
  }
  return node;
}

Node* child(Node& map, const std::string& key) {
  for (Entry& entry : map.entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

/// Adds the key where the alphabet has it, if the keys before are in its order; else at the end.
Node& insert(Node& map, const std::string& key) {
  const auto less = [](const Entry& a, const Entry& b) { return a.key < b.key; };
  auto where = map.entries.end();
  if (std::is_sorted(map.entries.begin(), map.entries.end(), less))
    where = std::find_if(map.entries.begin(), map.entries.end(),
                         [&](const Entry& entry) { return entry.key > key; });
  return map.entries.insert(where, Entry{key, {.line = 0, .column = 0}, {}})->value;
}

bool is_number(std::string_view text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size();
}

std::string json_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += std::string("\\") + c;
    else if (byte < 0x20)
      quoted += fmt::format("\\u{:04x}", static_cast<int>(byte));
    else
      quoted += c;
  }
  return quoted + "\"";
}

std::string json(const Node& node, const std::string& margin) {
  const std::string inner = margin + "  ";
  std::string text;
  switch (node.kind) {
    case Node::Kind::null: return "null";
    case Node::Kind::scalar:
      if (!node.quoted && (node.text == "true" || node.text == "false" || is_number(node.text)))
        return node.text;
      return json_text(node.text);
    case Node::Kind::list:
      for (const Node& item : node.items) text += (text.empty() ? "" : ", ") + json(item, inner);
      return "[" + text + "]";
    case Node::Kind::map:
      for (const Entry& entry : node.entries)
        text += fmt::format("{}\n{}{}: {}", text.empty() ? "" : ",", inner, json_text(entry.key),
                            json(entry.value, inner));
      return text.empty() ? "{}" : "{" + text + "\n" + margin + "}";
  }
  return text;
}

std::string yaml_scalar(const Node& node) {
  // What stood there without quotes says the same without them, unless it needs them by itself.
  const bool word = node.text == "true" || node.text == "false" || is_number(node.text);
  return !node.quoted && word ? node.text : yaml::scalar(node.text);
}

/// A list on one line; lists and maps inside it as JSON has them, which YAML reads.
std::string flow(const Node& list) {
  std::string text;
  for (const Node& item : list.items)
    text += (text.empty() ? "" : ", ") +
            (item.kind == Node::Kind::scalar ? yaml_scalar(item) : json(item, ""));
  return "[" + text + "]";
}

std::string yaml_text(const Node& map, const std::string& margin) {
  std::string text;
  for (const Entry& entry : map.entries) {
    const Node& value = entry.value;
    text += margin + yaml::scalar(entry.key) + ":";
    if (value.kind == Node::Kind::map && !value.entries.empty()) {
      text += "\n" + yaml_text(value, margin + "  ");
      continue;
    }
    if (value.kind == Node::Kind::map) text += " {}";
    if (value.kind == Node::Kind::scalar) text += " " + yaml_scalar(value);
    if (value.kind == Node::Kind::list) text += " " + flow(value);
    text += "\n";
  }
  return text;
}

/// Other spellings of the key's option, such as one without its prefix, or in another section, are
/// removed; the first in its own section gets its name instead, and so keeps its place.
void remove_others(Node& document, const ConfigKey& key) {
  const auto other = [&](const std::string& section, const Entry& entry) {
    if (section.empty() && entry.key == "fp16" && key.option == &option_named("mixed_precision"))
      return true;
    const auto found = find_key(section, entry.key);
    return found && found->option == key.option && key.option != nullptr &&
           (section != key.section || entry.key != key.name);
  };
  const auto tidy = [&](const std::string& section, Node& map) {
    if (section == key.section && child(map, key.name) == nullptr)
      for (Entry& entry : map.entries)
        if (!(section.empty() && is_section(entry.key)) && other(section, entry)) {
          entry.key = key.name;
          break;
        }
    std::erase_if(map.entries, [&](const Entry& entry) {
      return !(section.empty() && is_section(entry.key)) && other(section, entry);
    });
  };
  for (Entry& section : document.entries)
    if (is_section(section.key)) tidy(section.key, section.value);
  tidy("", document);
}

[[noreturn]] void cannot_write(const std::string& path, const std::string& why) {
  throw LaunchError(kExitUsage, fmt::format("{}: cannot be written: {}", path, why));
}

/// A temporary file beside the target, gone unless it takes the target's name.
class Replacement {
 public:
  explicit Replacement(const std::string& target)
      : target_(target),
        name_((std::filesystem::path(target).parent_path() / ".default_config.XXXXXX").string()) {
    // A signal waits until the file is whole or gone.
    sigset_t all;
    sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, &before_);
    fd_ = ::mkostemp(name_.data(), O_CLOEXEC);
    if (fd_ < 0) {
      const int error = errno;
      ::sigprocmask(SIG_SETMASK, &before_, nullptr);
      cannot_write(target_, std::strerror(error));
    }
  }
  ~Replacement() {
    if (fd_ >= 0) ::close(fd_);
    if (!renamed_) ::unlink(name_.c_str());
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  void fill(std::string_view text) {
    while (!text.empty()) {
      const ssize_t count = ::write(fd_, text.data(), text.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) cannot_write(target_, std::strerror(errno));
      text.remove_prefix(static_cast<size_t>(count));
    }
    struct stat info {};
    const mode_t mask = ::umask(0);
    ::umask(mask);
    const mode_t mode = ::stat(target_.c_str(), &info) == 0 ? info.st_mode & 07777 : 0666 & ~mask;
    if (::fchmod(fd_, mode) != 0 || ::fsync(fd_) != 0) cannot_write(target_, std::strerror(errno));
  }

  void rename() {
    if (::rename(name_.c_str(), target_.c_str()) != 0) cannot_write(target_, std::strerror(errno));
    renamed_ = true;
    const std::string folder = std::filesystem::path(target_).parent_path();
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    ::fsync(fd);  // where it fails the file is there all the same, if perhaps not after a power cut
    ::close(fd);
  }

 private:
  const std::string& target_;
  std::string name_;
  sigset_t before_ = {};
  int fd_ = -1;
  bool renamed_ = false;
};

/// The file that is really meant: behind links, with its folder.
std::string resolved_path(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  if (!error) return real;
  const auto whole = std::filesystem::absolute(path, error);
  return error ? path : whole.string();
}

}  // namespace

Node load_document(const std::string& path, bool must_exist) {
  struct stat info {};
  Node empty;
  empty.kind = Node::Kind::map;
  if (!must_exist && ::stat(path.c_str(), &info) != 0 && errno == ENOENT) return empty;
  try {
    Node document = yaml::read_file(path);
    read_config(document, path);
    return document.kind == Node::Kind::null ? empty : document;
  } catch (const FormatError& error) {
    throw ConfigError(error.what());
  } catch (const IoError& error) {
    throw LaunchError(kExitUsage, error.what());
  }
}

void set_value(Node& document, const ConfigKey& key, const std::string& value) {
  const bool removes = value.empty() || value == "null";
  if (!removes && key.option != nullptr)
    check_value({.option = key.option,
                 .value = value,
                 .layer = Layer::environment,
                 .origin = key.full() + "=" + value});
  remove_others(document, key);
  Node* map = &document;
  if (!key.section.empty()) {
    map = child(document, key.section);
    if (map == nullptr) {
      if (removes) return;
      map = &insert(document, key.section);
    }
    if (map->kind != Node::Kind::map) {
      *map = {};
      map->kind = Node::Kind::map;
    }
  }
  if (removes) {
    std::erase_if(map->entries, [&](const Entry& entry) { return entry.key == key.name; });
    return;
  }
  Node* target = child(*map, key.name);
  if (target == nullptr) target = &insert(*map, key.name);
  *target = scalar_node(key.option, value);
}

std::vector<std::string> modernise(Node& document) {
  std::vector<std::string> changes;
  if (const Node* legacy = child(document, "fp16")) {
    const bool on = truth_of(legacy->text).value_or(false);
    if (child(document, "mixed_precision") == nullptr)
      set_value(document, {.name = "mixed_precision", .option = &option_named("mixed_precision")},
                on ? "fp16" : "no");
    std::erase_if(document.entries, [](const Entry& entry) { return entry.key == "fp16"; });
    changes.push_back("fp16 -> mixed_precision");
  }
  for (Entry& section : document.entries) {
    if (!is_section(section.key)) continue;
    for (Entry& entry : section.value.entries) {
      const auto key = find_key(section.key, entry.key);
      if (!key || key->name == entry.key) continue;
      changes.push_back(fmt::format("{} -> {}", entry.key, key->name));
      entry.key = key->name;
    }
  }
  std::erase_if(document.entries, [&](const Entry& entry) {
    const bool empty = entry.value.kind == Node::Kind::null ||
                       (is_section(entry.key) && entry.value.entries.empty());
    if (empty) changes.push_back(entry.key + " (empty) left out");
    return empty;
  });
  return changes;
}

std::string emit(const Node& document, const std::string& path) {
  return path.ends_with(".json") ? json(document, "") + "\n" : yaml_text(document, "");
}

void write_atomically(const std::string& path, const std::string& text) {
  const std::string target = resolved_path(path);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(target).parent_path(), error);
  if (error) cannot_write(path, error.message());
  const auto status = std::filesystem::status(target, error);
  if (std::filesystem::is_directory(status)) cannot_write(path, "it is a folder");
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    cannot_write(path, "it is a device or a pipe");  // which a file would replace
  Replacement file(target);
  file.fill(text);
  file.rename();
}

}  // namespace weft::inline v0::launcher
