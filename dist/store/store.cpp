#include <weft/dist/store/store.hpp>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/clock.hpp>
#include <weft/dist/store/table.hpp>

namespace weft::inline v0::dist {

namespace {

void check_key(const char* call, std::string_view key) {
  WEFT_CHECK(ArgumentError, !key.empty(), "store: {}: the key is empty", call);
  WEFT_CHECK(ArgumentError, key.size() <= kMaxStoreKey,
             "store: {}: a key of {} bytes; at most {} are allowed", call, key.size(),
             kMaxStoreKey);
}

void check_keys(const char* call, const std::vector<std::string>& keys) {
  WEFT_CHECK(ArgumentError, keys.size() <= kMaxStoreWait,
             "store: {}: {} keys in one call; at most {} are allowed", call, keys.size(),
             kMaxStoreWait);
  for (const std::string& key : keys) check_key(call, key);
}

void check_value(const char* call, std::string_view key, std::string_view value) {
  WEFT_CHECK(ArgumentError, value.size() <= kMaxStoreValue,
             "store: {} '{}': a value of {} bytes; at most {} are allowed", call, key, value.size(),
             kMaxStoreValue);
}

}  // namespace

Store::Store(double default_timeout) : default_timeout_(default_timeout) {
  WEFT_CHECK(ArgumentError, default_timeout >= 0,
             "store: a default timeout of {} s; give a number of 0 or more", default_timeout);
}

Store::~Store() = default;

double Store::resolve(double timeout) const {
  WEFT_CHECK(ArgumentError, !std::isnan(timeout), "store: the timeout is not a number");
  return timeout < 0 ? default_timeout_ : timeout;
}

void Store::set(std::string_view key, std::string_view value, double timeout) {
  check_key("set", key);
  check_value("set", key, value);
  do_set(key, value, resolve(timeout));
}

std::string Store::get(std::string_view key, double timeout) {
  check_key("get", key);
  return do_get(key, resolve(timeout));
}

void Store::wait(const std::vector<std::string>& keys, double timeout) {
  check_keys("wait", keys);
  do_wait(keys, resolve(timeout));
}

bool Store::check(const std::vector<std::string>& keys, double timeout) {
  check_keys("check", keys);
  return do_check(keys, resolve(timeout));
}

int64_t Store::add(std::string_view key, int64_t amount, double timeout) {
  check_key("add", key);
  return do_add(key, amount, resolve(timeout));
}

std::string Store::compare_set(std::string_view key, std::string_view expected,
                               std::string_view desired, double timeout) {
  check_key("compare_set", key);
  check_value("compare_set", key, expected);
  check_value("compare_set", key, desired);
  return do_compare_set(key, expected, desired, resolve(timeout));
}

bool Store::delete_key(std::string_view key, double timeout) {
  check_key("delete_key", key);
  return do_delete(key, resolve(timeout));
}

struct InProcessStore::Impl {
  std::mutex mutex;
  std::condition_variable changed;
  detail::StoreTable table;

  /// Waits until all of `keys` exist; the lock is the caller's.
  void wait_for(std::unique_lock<std::mutex>& lock, const char* call,
                const std::vector<std::string>& keys, double timeout) {
    const auto there = [&] { return table.missing(keys).empty(); };
    if (!changed.wait_until(lock, detail::deadline_after(timeout), there))
      throw TimeoutError(detail::timeout_text(call, table.missing(keys), timeout));
  }
};

InProcessStore::InProcessStore(double default_timeout)
    : Store(default_timeout), impl_(std::make_unique<Impl>()) {}
InProcessStore::~InProcessStore() = default;

void InProcessStore::do_set(std::string_view key, std::string_view value, double) {
  const std::lock_guard lock(impl_->mutex);
  impl_->table.set(key, value);
  impl_->changed.notify_all();
}

std::string InProcessStore::do_get(std::string_view key, double timeout) {
  std::unique_lock lock(impl_->mutex);
  impl_->wait_for(lock, "get", {std::string(key)}, timeout);
  return *impl_->table.find(key);
}

void InProcessStore::do_wait(const std::vector<std::string>& keys, double timeout) {
  std::unique_lock lock(impl_->mutex);
  impl_->wait_for(lock, "wait", keys, timeout);
}

bool InProcessStore::do_check(const std::vector<std::string>& keys, double) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->table.missing(keys).empty();
}

int64_t InProcessStore::do_add(std::string_view key, int64_t amount, double) {
  const std::lock_guard lock(impl_->mutex);
  const int64_t sum = impl_->table.add(key, amount);
  impl_->changed.notify_all();
  return sum;
}

std::string InProcessStore::do_compare_set(std::string_view key, std::string_view expected,
                                           std::string_view desired, double) {
  const std::lock_guard lock(impl_->mutex);
  std::string value = impl_->table.compare_set(key, expected, desired);
  impl_->changed.notify_all();
  return value;
}

bool InProcessStore::do_delete(std::string_view key, double) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->table.erase(key);
}

PrefixStore::PrefixStore(std::string prefix, std::shared_ptr<Store> inner)
    : Store(inner ? inner->default_timeout() : 0.0),
      prefix_(std::move(prefix)),
      inner_(std::move(inner)) {
  WEFT_CHECK(ArgumentError, inner_ != nullptr, "store: prefix '{}' of a null store", prefix_);
  WEFT_CHECK(ArgumentError, !prefix_.empty(), "store: the prefix is empty");
}
PrefixStore::~PrefixStore() = default;

std::string PrefixStore::full(std::string_view key) const {
  std::string text;
  text.reserve(prefix_.size() + 1 + key.size());
  return text.append(prefix_).append("/").append(key);
}

std::vector<std::string> PrefixStore::full(const std::vector<std::string>& keys) const {
  std::vector<std::string> all;
  all.reserve(keys.size());
  for (const std::string& key : keys) all.push_back(full(key));
  return all;
}

void PrefixStore::do_set(std::string_view key, std::string_view value, double timeout) {
  inner_->set(full(key), value, timeout);
}
std::string PrefixStore::do_get(std::string_view key, double timeout) {
  return inner_->get(full(key), timeout);
}
void PrefixStore::do_wait(const std::vector<std::string>& keys, double timeout) {
  inner_->wait(full(keys), timeout);
}
bool PrefixStore::do_check(const std::vector<std::string>& keys, double timeout) {
  return inner_->check(full(keys), timeout);
}
int64_t PrefixStore::do_add(std::string_view key, int64_t amount, double timeout) {
  return inner_->add(full(key), amount, timeout);
}
std::string PrefixStore::do_compare_set(std::string_view key, std::string_view expected,
                                        std::string_view desired, double timeout) {
  return inner_->compare_set(full(key), expected, desired, timeout);
}
bool PrefixStore::do_delete(std::string_view key, double timeout) {
  return inner_->delete_key(full(key), timeout);
}

}  // namespace weft::inline v0::dist
