#include <weft/launcher/config_edit.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/launcher/config_write.hpp>

namespace weft::inline v0::launcher {

namespace {

using yaml::Entry;
using yaml::Node;

bool is_empty(const Node& node) {
  return node.kind == Node::Kind::null || (node.kind == Node::Kind::map && node.entries.empty());
}

const Entry* entry_named(const Node& map, const std::string& key) {
  for (const Entry& entry : map.entries)
    if (entry.key == key) return &entry;
  return nullptr;
}

/// Whether both say the same, in whatever order.
bool same(const Node& a, const Node& b) {
  if (is_empty(a) && is_empty(b)) return true;
  if (a.kind != b.kind || a.text != b.text || a.entries.size() != b.entries.size()) return false;
  for (const Entry& entry : a.entries) {
    const Entry* other = entry_named(b, entry.key);
    if (other == nullptr || !same(entry.value, other->value)) return false;
  }
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), same);
}

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

size_t skip_blanks(std::string_view line, size_t at) {
  while (at < line.size() && is_blank(line[at])) ++at;
  return at;
}

/// Behind the quote that closes the one at `at`; the line's end where none does.
size_t skip_quoted(std::string_view line, size_t at) {
  const char quote = line[at++];
  for (; at < line.size(); ++at) {
    if (line[at] == '\\' && quote == '"') {
      ++at;
    } else if (line[at] == quote) {
      if (quote == '"' || at + 1 == line.size() || line[at + 1] != quote) return at + 1;
      ++at;
    }
  }
  return line.size();
}

/// Where the key that begins at `at` ends: behind its colon. The line's end where there is none.
size_t skip_key(std::string_view line, size_t at) {
  if (at < line.size() && (line[at] == '"' || line[at] == '\'')) at = skip_quoted(line, at);
  for (; at < line.size(); ++at)
    if (line[at] == ':' && (at + 1 == line.size() || is_blank(line[at + 1]))) return at + 1;
  return line.size();
}

/// Where the comment behind a value begins, with the blanks before it; `at` is behind the key.
size_t find_comment(std::string_view line, size_t at) {
  size_t end = at;  // of what is no blank
  while (at < line.size()) {
    const bool begins = at == 0 || is_blank(line[at - 1]);
    if (line[at] == '#' && begins) return end;
    // A quote in the middle of a plain word is a letter.
    const bool quote = (line[at] == '"' || line[at] == '\'') &&
                       (begins || line[at - 1] == '[' || line[at - 1] == ',');
    const size_t next = quote ? skip_quoted(line, at) : at + 1;
    if (!is_blank(line[at])) end = next;
    at = next;
  }
  return end;
}

/// Note [Editing by lines]
/// The document knows where each key begins, and keys of a block stand on lines of their own. So
/// the lines from one key to the next are its entry, but for comments at their end, which speak of
/// what follows. Whatever else YAML allows (braces, several documents) is found out by reading the
/// result: if it does not say what it should, the caller writes the file anew.
class Editor {
 public:
  explicit Editor(const std::string& text) {
    for (size_t start = 0; start < text.size();) {
      const size_t end = std::min(text.find('\n', start), text.size());
      lines_.push_back(text.substr(start, end - start));
      start = end + 1;
    }
    if (!lines_.empty() && lines_[0].ends_with('\r')) return_ = "\r";
  }

  /// Nothing where places are not those of the lines, such as with other line ends.
  std::optional<std::string> run(const Node& before, const Node& after) {
    change_map(before, after, static_cast<int>(lines_.size()) + 1, "");
    // From the bottom, so that line numbers stay true; of several at one line the last goes first.
    std::stable_sort(changes_.begin(), changes_.end(),
                     [](const Change& a, const Change& b) { return a.line < b.line; });
    for (auto change = changes_.rbegin(); change != changes_.rend(); ++change) {
      const auto count = static_cast<int>(lines_.size());
      if (change->line < 1 || change->removed < 0 || change->line - 1 + change->removed > count)
        return std::nullopt;
      const auto at = lines_.begin() + change->line - 1;
      lines_.insert(lines_.erase(at, at + change->removed), change->added.begin(),
                    change->added.end());
    }
    std::string text;
    for (const std::string& line : lines_) text += line + "\n";
    return text;
  }

 private:
  struct Change {
    int line = 1;     ///< counted from 1
    int removed = 0;  ///< lines from there on
    std::vector<std::string> added = {};
  };

  std::string_view line(int number) const {
    const auto at = static_cast<size_t>(number) - 1;
    return at < lines_.size() ? std::string_view(lines_[at]) : std::string_view();
  }

  bool says_nothing(int number) const {
    if (number < 1) return false;
    const std::string_view text = line(number);
    const size_t at = skip_blanks(text, 0);
    return at == text.size() || text[at] == '#';
  }

  /// Behind the last line of an entry that begins at `begin` and is followed by something at `end`.
  int end_of(int begin, int end) const {
    while (end - 1 > begin && says_nothing(end - 1)) --end;
    return end;
  }

  /// The lines of a new entry.
  std::vector<std::string> written(const Entry& entry, const std::string& margin) const {
    Node map;
    map.kind = Node::Kind::map;
    map.entries = {entry};
    std::vector<std::string> added;
    for (std::string& text : lines_of(emit(map, ""))) added.push_back(margin + text + return_);
    return added;
  }

  static std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t start = 0; start < text.size();) {
      const size_t end = std::min(text.find('\n', start), text.size());
      lines.push_back(text.substr(start, end - start));
      start = end + 1;
    }
    return lines;
  }

  /// The entry at the lines from `begin` to `end` with another key or value: its first line is kept
  /// up to the key, and from its comment on.
  void change_entry(const Entry& before, const Entry& after, int end) {
    const int begin = before.place.line;
    const std::string text(line(begin));
    const size_t key = static_cast<size_t>(before.place.column) - 1;
    const size_t comment = find_comment(text, skip_key(text, key));
    std::vector<std::string> added = written(after, std::string(key, ' '));
    std::string& first = added[0];
    if (!return_.empty()) first.pop_back();
    first = text.substr(0, std::min(key, text.size())) + first.substr(key);
    if (comment < text.size()) first += text.substr(comment);
    changes_.push_back({begin, end_of(begin, end) - begin, std::move(added)});
  }

  /// Key alone, the lines below being changed by themselves.
  void change_key(const Entry& before, const Entry& after) {
    const std::string text(line(before.place.line));
    const size_t key = static_cast<size_t>(before.place.column) - 1;
    const size_t end = skip_key(text, key);
    changes_.push_back({before.place.line,
                        1,
                        {text.substr(0, key) + yaml::scalar(after.key) + ":" + text.substr(end)}});
  }

  void change_map(const Node& before, const Node& after, int end, const std::string& outer) {
    const std::string margin =
        before.entries.empty()
            ? outer
            : std::string(static_cast<size_t>(before.entries[0].place.column) - 1, ' ');
    // What is new stands behind what it follows; if it comes first, behind the first of old where
    // a comment stands above that, as it may be the file's.
    int next = before.entries.empty() ? end : 0;
    if (next == 0 && !says_nothing(before.entries[0].place.line - 1))
      next = before.entries[0].place.line;
    std::vector<std::vector<std::string>> first;
    const auto end_at = [&](size_t i) {
      return i + 1 < before.entries.size() ? before.entries[i + 1].place.line : end;
    };
    const auto matches = [](const Entry& a, const Entry& b) {
      return a.place.line == b.place.line && a.place.column == b.place.column;
    };
    for (const Entry& entry : after.entries) {
      const auto old = std::find_if(before.entries.begin(), before.entries.end(),
                                    [&](const Entry& other) { return matches(entry, other); });
      if (old == before.entries.end()) {
        if (next == 0)
          first.push_back(written(entry, margin));
        else
          changes_.push_back({next, 0, written(entry, margin)});
        continue;
      }
      const int behind = end_at(static_cast<size_t>(old - before.entries.begin()));
      change_one(*old, entry, behind);
      next = end_of(old->place.line, behind);
      for (std::vector<std::string>& lines : std::exchange(first, {}))
        changes_.push_back({next, 0, std::move(lines)});
    }
    if (!first.empty()) next = before.entries[0].place.line;  // nothing of the old is left
    for (std::vector<std::string>& lines : first) changes_.push_back({next, 0, std::move(lines)});
    for (size_t i = 0; i < before.entries.size(); ++i) {
      const Entry& old = before.entries[i];
      const bool stays = std::any_of(after.entries.begin(), after.entries.end(),
                                     [&](const Entry& entry) { return matches(entry, old); });
      if (!stays)
        changes_.push_back(
            {old.place.line, end_of(old.place.line, end_at(i)) - old.place.line, {}});
    }
  }

  void change_one(const Entry& before, const Entry& after, int end) {
    const bool same_value = same(before.value, after.value);
    if (same_value && before.key == after.key) return;
    const Node &old = before.value, &now = after.value;
    const bool block = old.kind == Node::Kind::map && !old.entries.empty() &&
                       old.entries[0].place.line > before.place.line;
    if (block && now.kind == Node::Kind::map && !now.entries.empty()) {
      if (before.key != after.key) change_key(before, after);
      change_map(old, now, end, "");
    } else {
      change_entry(before, after, end);
    }
  }

  std::vector<std::string> lines_;
  std::string return_;  // "\r" where lines end so
  std::vector<Change> changes_;
};

}  // namespace

std::optional<std::string> edited(const std::string& text, const Node& before, const Node& after) {
  if (before.kind != Node::Kind::map && before.kind != Node::Kind::null) return std::nullopt;
  try {
    auto result = Editor(text).run(before, after);
    if (result && same(yaml::parse(*result, "edited"), after)) return result;
  } catch (const FormatError&) {  // no document at all
  }
  return std::nullopt;
}

}  // namespace weft::inline v0::launcher
