#include <weft/dist/store/table.hpp>

#include <charconv>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

using weft::detail::fail;

const std::string* StoreTable::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::vector<std::string> StoreTable::missing(const std::vector<std::string>& keys) const {
  std::vector<std::string> absent;
  for (const std::string& key : keys)
    if (find(key) == nullptr) absent.push_back(key);
  return absent;
}

void StoreTable::set(std::string_view key, std::string_view value) {
  const auto found = values_.find(key);
  const size_t before = found == values_.end() ? 0 : key.size() + found->second.size();
  const size_t bytes = bytes_ - before + key.size() + value.size();
  if (found == values_.end() && values_.size() >= kMaxStoreKeys)
    fail<CommError>("store: full: {} keys; cannot set '{}'; delete keys that are done with",
                    values_.size(), key);
  if (bytes > kMaxStoreBytes)
    fail<CommError>("store: full: {} bytes in use of {}; cannot set '{}' to {} bytes", bytes_,
                    kMaxStoreBytes, key, value.size());
  if (found == values_.end())
    values_.emplace(key, value);
  else
    found->second = value;
  bytes_ = bytes;
}

void StoreTable::set_own(const std::string& key, std::string value) {
  erase(key);
  bytes_ += key.size() + value.size();
  values_.emplace(key, std::move(value));
}

int64_t StoreTable::add(std::string_view key, int64_t amount) {
  int64_t count = 0;
  if (const std::string* old = find(key)) {
    const char* end = old->data() + old->size();
    const auto [stop, error] = std::from_chars(old->data(), end, count);
    if (error != std::errc() || stop != end)
      fail<ArgumentError>("store: add to '{}': its value of {} bytes is no whole number", key,
                          old->size());
  }
  int64_t sum = 0;
  if (__builtin_add_overflow(count, amount, &sum))
    fail<ArgumentError>("store: add of {} to '{}' = {} leaves the range of int64", amount, key,
                        count);
  set(key, std::to_string(sum));
  return sum;
}

std::string StoreTable::compare_set(std::string_view key, std::string_view expected,
                                    std::string_view desired) {
  const std::string* old = find(key);
  const bool swap = old == nullptr ? expected.empty() : *old == expected;
  if (swap) {
    set(key, desired);
    return std::string(desired);
  }
  return old == nullptr ? std::string(expected) : *old;
}

bool StoreTable::erase(std::string_view key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return false;
  bytes_ -= found->first.size() + found->second.size();
  values_.erase(found);
  return true;
}

int64_t StoreTable::erase_prefix(std::string_view prefix) {
  return static_cast<int64_t>(std::erase_if(values_, [&](const auto& entry) {
    if (!std::string_view(entry.first).starts_with(prefix)) return false;
    bytes_ -= entry.first.size() + entry.second.size();
    return true;
  }));
}

std::string list_keys(const std::vector<std::string>& keys) {
  constexpr size_t kShown = 4;
  std::string text;
  for (size_t i = 0; i < keys.size() && i < kShown; ++i)
    text += fmt::format("{}'{}'", i == 0 ? "" : ", ", keys[i]);
  if (keys.size() > kShown) text += fmt::format(" and {} more", keys.size() - kShown);
  return text;
}

std::string timeout_text(std::string_view call, const std::vector<std::string>& missing,
                         double seconds) {
  return fmt::format(
      "store: {}: no rank set {} within {:.3g} s; look for a rank that did not start, or that "
      "ended early",
      call, list_keys(missing), seconds);
}

}  // namespace weft::inline v0::dist::detail
