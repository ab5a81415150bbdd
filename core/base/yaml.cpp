#include <weft/core/base/yaml.hpp>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <istream>
#include <streambuf>
#include <unordered_set>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::yaml {

namespace {

template <class... Args>
[[noreturn]] void refuse(const char* code, const std::string& name, Place place,
                         fmt::format_string<Args...> text, Args&&... args) {
  throw FormatError(code, fmt::format("{}:{}:{}: {}", name, place.line, place.column,
                                      fmt::format(text, std::forward<Args>(args)...)));
}

Place place_of(const YAML::Mark& mark) {
  return mark.is_null() ? Place{} : Place{mark.line + 1, mark.column + 1};
}

/// The bytes of one UTF-8 sequence at the start of `text`, or 0 where it is malformed.
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  if (first == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
  if (first == 0xed && byte(1) > 0x9f) return 0;  // half of a surrogate pair
  if (first == 0xf0 && byte(1) < 0x90) return 0;
  if (first == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

void check_encoding(std::string_view text, const std::string& name) {
  Place place;
  while (!text.empty()) {
    const auto first = static_cast<unsigned char>(text[0]);
    if ((first < 0x20 && first != '\t' && first != '\n' && first != '\r') || first == 0x7f)
      refuse("E_YAML_ENCODING", name, place, "control character 0x{:02x}; is this a text file?",
             static_cast<int>(first));
    const size_t length = sequence_length(text);
    if (length == 0)
      refuse("E_YAML_ENCODING", name, place, "byte 0x{:02x} is not UTF-8; save the file as UTF-8",
             static_cast<int>(first));
    text.remove_prefix(length);
    place.column = first == '\n' ? 1 : place.column + 1;
    place.line += first == '\n' ? 1 : 0;
  }
}

/// `value` in UTF-8: yaml-cpp gives the escapes \N (U+0085) and \_ (U+00A0) as a bare byte.
std::string in_utf8(std::string_view value) {
  std::string text;
  while (!value.empty()) {
    const size_t length = sequence_length(value);
    if (length == 0) text += '\xc2';
    text += value.substr(0, std::max<size_t>(length, 1));
    value.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

/// Reads from memory without a copy.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());
    setg(begin, begin, begin + text.size());
  }
};

/// Builds the tree from the parser's events, so that limits hold while it grows. Nodes on the stack
/// are whole, not addresses into the tree: it moves as it grows.
class Builder : public YAML::EventHandler {
 public:
  Builder(const std::string& name, const Limits& limits) : name_(name), limits_(limits) {}

  Node take() { return std::move(root_); }
  void forbid_more() { another_ = true; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (another_)
      refuse("E_YAML_DOCUMENTS", name_, place_of(mark),
             "a second document begins here; a configuration is one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    add(make(Node::Kind::null, mark));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse("E_YAML_ALIAS", name_, place_of(mark), "aliases (*name) are not taken; write the value");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    check_tag(tag, mark);
    Node node = make(Node::Kind::scalar, mark);
    node.text = in_utf8(value);
    node.quoted = tag == "!";
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    check_tag(tag, mark);
    open(make(Node::Kind::list, mark));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    check_tag(tag, mark);
    open(make(Node::Kind::map, mark));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    Node node;
    bool has_key = false;
    std::string key = {};
    Place key_place = {};
    std::unordered_set<std::string> keys = {};
  };

  Node make(Node::Kind kind, const YAML::Mark& mark) {
    if (++nodes_ > limits_.nodes)
      refuse("E_YAML_LIMIT", name_, place_of(mark), "more than {} values", limits_.nodes);
    Node node;
    node.kind = kind;
    node.place = place_of(mark);
    return node;
  }

  void check_tag(const std::string& tag, const YAML::Mark& mark) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    for (const char* plain : {"str", "int", "float", "bool", "null", "seq", "map"})
      if (tag == std::string("tag:yaml.org,2002:") + plain) return;
    refuse("E_YAML_TAG", name_, place_of(mark), "the tag {} is not taken; write the plain value",
           tag.substr(0, 60));
  }

  void open(Node node) {
    if (stack_.size() >= limits_.depth)
      refuse("E_YAML_LIMIT", name_, node.place, "more than {} lists and maps inside one another",
             limits_.depth);
    if (!stack_.empty() && stack_.back().node.kind == Node::Kind::map && !stack_.back().has_key)
      refuse("E_YAML_KEY", name_, node.place, "a {} stands where a key is expected",
             kind_name(node.kind));
    stack_.push_back({.node = std::move(node)});
  }

  void close() {
    Node node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node));
  }

  void add(Node node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& level = stack_.back();
    if (level.node.kind == Node::Kind::list) {
      level.node.items.push_back(std::move(node));
    } else if (!level.has_key) {
      take_key(level, std::move(node));
    } else {
      level.node.entries.push_back({std::move(level.key), level.key_place, std::move(node)});
      level.has_key = false;
    }
  }

  void take_key(Level& level, Node node) {
    if (node.kind != Node::Kind::scalar) refuse("E_YAML_KEY", name_, node.place, "an empty key");
    if (!level.keys.insert(node.text).second) {
      Place first;
      for (const Entry& entry : level.node.entries)
        if (entry.key == node.text) first = entry.place;
      refuse("E_YAML_DUPLICATE", name_, node.place, "the key '{}' stands twice, first in line {}",
             node.text.substr(0, 100), first.line);
    }
    level.key = std::move(node.text);
    level.key_place = node.place;
    level.has_key = true;
  }

  const std::string& name_;
  const Limits& limits_;
  std::vector<Level> stack_;
  Node root_;
  size_t nodes_ = 0;
  bool another_ = false;
};

}  // namespace

Node parse(std::string_view text, const std::string& name, const Limits& limits) {
  if (text.size() > limits.bytes)
    refuse("E_YAML_LIMIT", name, {}, "{} bytes; a configuration has at most {}", text.size(),
           limits.bytes);
  check_encoding(text, name);
  // yaml-cpp takes the end of the text for a missing closing quote, if a newline precedes it.
  text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
  ViewBuffer buffer(text);
  std::istream stream(&buffer);
  Builder builder(name, limits);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return {};
    builder.forbid_more();
    parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& error) {
    refuse("E_YAML_SYNTAX", name, place_of(error.mark), "no YAML: {}", error.msg);
  }
  return builder.take();
}

Node read_file(const std::string& path, const Limits& limits) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(limits.bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.eof() && (!file || file.bad()))
    throw IoError(
        fmt::format("{}: cannot be read: {}", path, std::strerror(errno != 0 ? errno : EIO)));
  text.resize(static_cast<size_t>(file.gcount()));
  return parse(text, path, limits);
}

const char* kind_name(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::null: return "empty";
    case Node::Kind::scalar: return "text";
    case Node::Kind::list: return "list";
    case Node::Kind::map: return "map";
  }
  return "";
}

std::string scalar(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_./-+=").find(c) != std::string_view::npos;
  };
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  // What some reader of YAML takes for something else than text.
  const char* const words[] = {"",   "=",   "y",    "n",    "yes",  "no",
                               "on", "off", "null", "true", "false"};
  const bool word = std::find(std::begin(words), std::end(words), lower) != std::end(words);
  const bool safe = !word && std::all_of(text.begin(), text.end(), plain) && text[0] != '-';
  if (safe) return std::string(text);
  const bool printable = std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  std::string quoted;
  if (printable) {
    for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
    return "'" + quoted + "'";
  }
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      quoted += std::string("\\") + c;
    else if (byte < 0x20 || byte == 0x7f)
      quoted += fmt::format("\\x{:02x}", static_cast<int>(byte));
    else
      quoted += c;
  }
  return "\"" + quoted + "\"";
}

}  // namespace weft::inline v0::yaml
