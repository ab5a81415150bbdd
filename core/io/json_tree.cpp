#include <weft/core/io/json_tree.hpp>

#include <unordered_set>

#include <nlohmann/json.hpp>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::detail {

namespace {

constexpr size_t kMaxDepth = 64;

/// Note [Reading untrusted JSON]
/// The library's own document type looks keys up by walking over all of them (in file order) and
/// its callbacks do so again at the end of each object, so a header of many keys takes quadratic
/// time. Its event interface has neither; the tree is built from that.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Builder(const std::string& path, const char* code, bool allow_repeats)
      : path_(path), code_(code), allow_repeats_(allow_repeats) {}

  JsonTree take() { return std::move(root_); }

  bool null() override { return add({JsonTree::Kind::null, 0, "null", {}}); }
  bool boolean(bool value) override {
    return add({JsonTree::Kind::boolean, 0, value ? "true" : "false", {}});
  }
  bool number_integer(number_integer_t value) override {
    return add({JsonTree::Kind::number, 0, std::to_string(value), {}});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return add({JsonTree::Kind::whole, value, std::to_string(value), {}});
  }
  bool number_float(number_float_t, const string_t& text) override {
    return add({JsonTree::Kind::number, 0, text, {}});
  }
  bool string(string_t& value) override {
    return add({JsonTree::Kind::text, 0, std::move(value), {}});
  }
  bool binary(binary_t&) override { return false; }  // not part of JSON text
  bool start_object(size_t) override { return open(JsonTree::Kind::object); }
  bool start_array(size_t) override { return open(JsonTree::Kind::list); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    if (!level.names.insert(name).second && !(allow_repeats_ && levels_.size() == 1))
      throw FormatError("E_DUP_KEY", fmt::format("{}: the key '{}' is given twice", path_, name));
    level.name = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    throw FormatError(code_, fmt::format("{}: the JSON text is broken at byte {}", path_,
                                         position > 0 ? position - 1 : 0));
  }

 private:
  struct Level {
    JsonTree value;
    std::string name;  // of the member to come
    std::unordered_set<std::string> names;
  };

  bool add(JsonTree value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Level& level = levels_.back();
    level.value.members.push_back({std::move(level.name), std::move(value)});
    level.name.clear();
    return true;
  }
  bool open(JsonTree::Kind kind) {
    if (levels_.size() >= kMaxDepth)
      throw FormatError(
          code_, fmt::format("{}: the JSON text is nested more than {} deep", path_, kMaxDepth));
    levels_.emplace_back();
    levels_.back().value.kind = kind;
    return true;
  }
  bool close() {
    JsonTree value = std::move(levels_.back().value);
    levels_.pop_back();
    return add(std::move(value));
  }

  const std::string& path_;
  const char* code_;
  bool allow_repeats_;
  JsonTree root_;
  std::vector<Level> levels_;
};

void append(const JsonTree& tree, std::string& out) {
  constexpr size_t kEnough = 200;
  if (out.size() > kEnough) return;
  if (tree.is_text()) {
    out += '"' + tree.text + '"';
  } else if (tree.is_list() || tree.is_object()) {
    out += tree.is_list() ? '[' : '{';
    for (size_t i = 0; i < tree.members.size() && out.size() <= kEnough; ++i) {
      if (i > 0) out += ", ";
      if (tree.is_object()) out += '"' + tree.members[i].name + "\": ";
      append(tree.members[i].value, out);
    }
    out += out.size() > kEnough ? "…" : tree.is_list() ? "]" : "}";
  } else {
    out += tree.text;
  }
}

}  // namespace

const JsonTree* JsonTree::find(std::string_view name) const {
  for (size_t i = members.size(); i-- > 0;)
    if (is_object() && members[i].name == name) return &members[i].value;
  return nullptr;
}

std::string JsonTree::describe() const {
  std::string out;
  append(*this, out);
  return out;
}

JsonTree parse_json(const std::string& path, std::string_view text, const char* code,
                    bool allow_repeats) {
  // The library would take a zero byte for the end of the text and a byte order mark for nothing.
  const size_t zero = text.find('\0');
  if (zero != text.npos)
    throw FormatError(code, fmt::format("{}: byte {} of the JSON text is zero", path, zero));
  if (text.starts_with("\xef\xbb\xbf"))
    throw FormatError(code, fmt::format("{}: the JSON text begins with a byte order mark", path));
  Builder builder(path, code, allow_repeats);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace weft::inline v0::detail
