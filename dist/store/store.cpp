#include <weft/dist/store/store.hpp>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/barriers.hpp>
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

size_t Store::wait_any(const std::vector<std::string>& keys, double timeout) {
  WEFT_CHECK(ArgumentError, !keys.empty(), "store: wait_any: no keys");
  check_keys("wait_any", keys);
  return do_wait_any(keys, resolve(timeout));
}

int64_t Store::delete_prefix(std::string_view prefix, double timeout) {
  check_key("delete_prefix", prefix);
  return do_delete_prefix(prefix, resolve(timeout));
}

void Store::barrier(std::string_view name, int64_t count, double timeout) {
  check_key("barrier", name);
  WEFT_CHECK(ArgumentError, count >= 1, "store: barrier '{}' of {}; the count starts at 1", name,
             count);
  do_barrier(name, count, resolve(timeout));
}

void Store::join(std::string_view member, const MemberOptions& options, double timeout) {
  check_key("join", member_key(member));
  check_value("join", member, options.detail);
  WEFT_CHECK(ArgumentError, options.interval > 0 && options.limit > options.interval,
             "store: join as '{}': a sign of life every {} s, silence of at most {} s; both have "
             "to be above 0, the second above the first",
             member, options.interval, options.limit);
  do_join(member, options, resolve(timeout));
}

void Store::leave(double timeout) { do_leave(resolve(timeout)); }

double Store::seconds_since_contact() const { return do_seconds_since_contact(); }

std::string member_key(std::string_view member) { return fmt::format("member/{}", member); }
std::string gone_key(std::string_view member) { return fmt::format("gone/{}", member); }
std::string left_key(std::string_view member) { return fmt::format("left/{}", member); }

struct InProcessStore::Impl {
  std::mutex mutex;
  std::condition_variable changed;
  detail::StoreTable table;
  detail::StoreBarriers barriers;
  uint64_t next_call = 1;                        // of barriers
  std::map<uint64_t, std::string> barrier_ends;  // calls that are over: the error, or nothing
  std::string member;

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

size_t InProcessStore::do_wait_any(const std::vector<std::string>& keys, double timeout) {
  std::unique_lock lock(impl_->mutex);
  size_t first = 0;
  const auto there = [&] {
    for (first = 0; first < keys.size(); ++first)
      if (impl_->table.find(keys[first]) != nullptr) return true;
    return false;
  };
  if (!impl_->changed.wait_until(lock, detail::deadline_after(timeout), there))
    throw TimeoutError(detail::timeout_text("wait_any", keys, timeout));
  return first;
}

int64_t InProcessStore::do_delete_prefix(std::string_view prefix, double) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->table.erase_prefix(prefix);
}

void InProcessStore::do_barrier(std::string_view name, int64_t count, double timeout) {
  std::unique_lock lock(impl_->mutex);
  const uint64_t id = impl_->next_call++;
  const detail::TimePoint start = detail::Clock::now();
  const detail::TimePoint deadline = start + detail::to_duration(timeout);
  auto& ends = impl_->barrier_ends;
  const auto released = impl_->barriers.arrive(
      std::string(name), count, {.client = {}, .request = id},
      {.connection = 0, .label = fmt::format("call {}", id), .start = start, .deadline = deadline});
  for (const auto& [caller, arrival] : released) ends[caller.request] = "";
  impl_->changed.notify_all();
  while (!impl_->changed.wait_until(lock, deadline, [&] { return ends.contains(id); }))
    for (const auto& late : impl_->barriers.expire(detail::Clock::now()))
      ends[late.caller.request] = late.text;
  const std::string error = ends.extract(id).mapped();
  if (!error.empty()) throw TimeoutError(error);
}

// Nobody outside could miss a member of this process: joining only sets the keys.
void InProcessStore::do_join(std::string_view member, const MemberOptions& options, double) {
  const std::lock_guard lock(impl_->mutex);
  WEFT_CHECK(ArgumentError, impl_->member.empty(),
             "store: join as '{}': this process has joined already", member);
  impl_->member = member;
  impl_->table.erase(left_key(member));
  impl_->table.set_own(member_key(member), options.detail);
  impl_->changed.notify_all();
}

void InProcessStore::do_leave(double) {
  const std::lock_guard lock(impl_->mutex);
  WEFT_CHECK(ArgumentError, !impl_->member.empty(), "store: leave: this process has not joined");
  const std::string member = std::exchange(impl_->member, {});
  const std::string* detail = impl_->table.find(member_key(member));
  impl_->table.set_own(left_key(member), detail == nullptr ? "" : std::string(*detail));
  impl_->table.erase(member_key(member));
  impl_->changed.notify_all();
}

double InProcessStore::do_seconds_since_contact() const { return 0; }

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

size_t PrefixStore::do_wait_any(const std::vector<std::string>& keys, double timeout) {
  return inner_->wait_any(full(keys), timeout);
}
int64_t PrefixStore::do_delete_prefix(std::string_view prefix, double timeout) {
  return inner_->delete_prefix(full(prefix), timeout);
}
void PrefixStore::do_barrier(std::string_view name, int64_t count, double timeout) {
  inner_->barrier(full(name), count, timeout);
}
void PrefixStore::do_join(std::string_view member, const MemberOptions& options, double timeout) {
  inner_->join(member, options, timeout);
}
void PrefixStore::do_leave(double timeout) { inner_->leave(timeout); }
double PrefixStore::do_seconds_since_contact() const { return inner_->seconds_since_contact(); }

}  // namespace weft::inline v0::dist
