// Key-value store through which the ranks of a job find each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <weft/core/base/api.hpp>

namespace weft::inline v0::dist {

inline constexpr size_t kMaxStoreKey = 512;          ///< bytes of a key
inline constexpr size_t kMaxStoreValue = 1u << 20;   ///< bytes of a value
inline constexpr size_t kMaxStoreKeys = 64 * 1024;   ///< keys in one store
inline constexpr size_t kMaxStoreBytes = 256 << 20;  ///< bytes of all keys and values of one store
inline constexpr size_t kMaxStoreWait = 1024;        ///< keys that one wait() may name
inline constexpr double kStoreTimeout = 120.0;       ///< seconds; WEFT_JOIN_TIMEOUT's default

/// How a member of the job shows that it is alive; see Store::join.
struct MemberOptions {
  double interval = 2.0;  ///< seconds between its signs of life
  double limit = 10.0;  ///< seconds of silence after which it counts as gone, and the store as lost
  std::string detail = {};  ///< (optional) the value of its member_key(): host, address, …
  /// (optional) told once, on a thread of the store's, that the store could not be reached for
  /// `limit` seconds, or that the store gave this member up; must not throw, nor destroy the store
  std::function<void(std::string_view why)> on_lost = nullptr;
};

/// The key that exists while `member` has joined; the value is its MemberOptions::detail.
WEFT_API std::string member_key(std::string_view member);

/// The key that the store sets when `member` is gone without having left; the value is the reason,
/// as one line of text.
WEFT_API std::string gone_key(std::string_view member);

/// The key that the store sets when `member` has left.
WEFT_API std::string left_key(std::string_view member);

/// The store, whatever carries it. Keys are non-empty, values any bytes. Every call has a timeout
/// in seconds (negative: `default_timeout()`) and throws TimeoutError, naming the keys and the time
/// waited, when it runs out; CommError when the store cannot be reached or is full; ArgumentError
/// for a key or a value outside the limits above. May be used from several threads.
/// Names and semantics follow torch.distributed.Store.
class WEFT_API Store {
 public:
  virtual ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Sets `key`, whether it exists or not.
  void set(std::string_view key, std::string_view value, double timeout = -1);

  /// The value of `key`; waits until some rank sets it.
  std::string get(std::string_view key, double timeout = -1);

  /// Waits until all of `keys` exist.
  void wait(const std::vector<std::string>& keys, double timeout = -1);

  /// Whether all of `keys` exist now.
  bool check(const std::vector<std::string>& keys, double timeout = -1);

  /// Adds to the counter `key` (a missing one counts as 0) and returns the new count; the value is
  /// the count in decimal. Counted once, even where the connection breaks and the call is repeated.
  /// Throws ArgumentError where the value is no number or the sum leaves the range of int64.
  int64_t add(std::string_view key, int64_t amount, double timeout = -1);

  /// Sets `key` to `desired` if its value is `expected`, or if it is missing and `expected` is
  /// empty. Returns the value that `key` then has; `expected` where it is missing.
  std::string compare_set(std::string_view key, std::string_view expected, std::string_view desired,
                          double timeout = -1);

  /// Removes `key`; whether it existed.
  bool delete_key(std::string_view key, double timeout = -1);

  /// Waits until one of `keys` exists; the index of the first one that does. Throws ArgumentError
  /// where there are none.
  size_t wait_any(const std::vector<std::string>& keys, double timeout = -1);

  /// Removes all keys that begin with `prefix`, which must not be empty; how many there were.
  int64_t delete_prefix(std::string_view prefix, double timeout = -1);

  /// Waits until `count` calls with this name have arrived. All are let go together, and the name
  /// is free for the next time. A call that is repeated as its connection broke arrives once; one
  /// whose timeout runs out has not arrived. Throws ArgumentError where others gave another count.
  void barrier(std::string_view name, int64_t count, double timeout = -1);

  /// Joins the job as `member`: sets member_key(member), and from then on a thread of the store's
  /// shows every `interval` seconds that this process is alive. Where it is silent for `limit`
  /// seconds, or its connection closes and does not come back, the store sets gone_key(member) and
  /// takes no changes from it any more. One store object is one member.
  /// Throws ArgumentError where another process has joined under that name, or this one has joined.
  void join(std::string_view member, const MemberOptions& options = {}, double timeout = -1);

  /// Leaves in order: sets left_key(member) in the place of member_key(member). Throws
  /// ArgumentError where this store has not joined.
  void leave(double timeout = -1);

  /// Seconds since the store last answered this process; 0 where it is in this process.
  double seconds_since_contact() const;

  /// Seconds that a call waits where it is given no timeout.
  double default_timeout() const noexcept { return default_timeout_; }

 protected:
  /// `default_timeout` in seconds; throws ArgumentError unless it is a number >= 0.
  explicit Store(double default_timeout);

  // The calls above, arguments checked, with the timeout that holds.
  virtual void do_set(std::string_view key, std::string_view value, double timeout) = 0;
  virtual std::string do_get(std::string_view key, double timeout) = 0;
  virtual void do_wait(const std::vector<std::string>& keys, double timeout) = 0;
  virtual bool do_check(const std::vector<std::string>& keys, double timeout) = 0;
  virtual int64_t do_add(std::string_view key, int64_t amount, double timeout) = 0;
  virtual std::string do_compare_set(std::string_view key, std::string_view expected,
                                     std::string_view desired, double timeout) = 0;
  virtual bool do_delete(std::string_view key, double timeout) = 0;
  virtual size_t do_wait_any(const std::vector<std::string>& keys, double timeout) = 0;
  virtual int64_t do_delete_prefix(std::string_view prefix, double timeout) = 0;
  virtual void do_barrier(std::string_view name, int64_t count, double timeout) = 0;
  virtual void do_join(std::string_view member, const MemberOptions& options, double timeout) = 0;
  virtual void do_leave(double timeout) = 0;
  virtual double do_seconds_since_contact() const = 0;

 private:
  double resolve(double timeout) const;
  double default_timeout_;
};

/// A store inside one process: one rank alone, or ranks that are threads.
class WEFT_API InProcessStore final : public Store {
 public:
  explicit InProcessStore(double default_timeout = kStoreTimeout);
  ~InProcessStore() override;

 private:
  struct Impl;

  void do_set(std::string_view key, std::string_view value, double timeout) override;
  std::string do_get(std::string_view key, double timeout) override;
  void do_wait(const std::vector<std::string>& keys, double timeout) override;
  bool do_check(const std::vector<std::string>& keys, double timeout) override;
  int64_t do_add(std::string_view key, int64_t amount, double timeout) override;
  std::string do_compare_set(std::string_view key, std::string_view expected,
                             std::string_view desired, double timeout) override;
  bool do_delete(std::string_view key, double timeout) override;
  size_t do_wait_any(const std::vector<std::string>& keys, double timeout) override;
  int64_t do_delete_prefix(std::string_view prefix, double timeout) override;
  void do_barrier(std::string_view name, int64_t count, double timeout) override;
  void do_join(std::string_view member, const MemberOptions& options, double timeout) override;
  void do_leave(double timeout) override;
  double do_seconds_since_contact() const override;

  std::unique_ptr<Impl> impl_;
};

/// Another store seen through a prefix: `key` is `prefix/key` there. Gives each group its own
/// names. Members are the whole job's: join() and leave() pass through, their keys get no prefix.
class WEFT_API PrefixStore final : public Store {
 public:
  /// Throws ArgumentError where `inner` is null or `prefix` is empty.
  PrefixStore(std::string prefix, std::shared_ptr<Store> inner);
  ~PrefixStore() override;

  const std::string& prefix() const noexcept { return prefix_; }

 private:
  std::string full(std::string_view key) const;
  std::vector<std::string> full(const std::vector<std::string>& keys) const;

  void do_set(std::string_view key, std::string_view value, double timeout) override;
  std::string do_get(std::string_view key, double timeout) override;
  void do_wait(const std::vector<std::string>& keys, double timeout) override;
  bool do_check(const std::vector<std::string>& keys, double timeout) override;
  int64_t do_add(std::string_view key, int64_t amount, double timeout) override;
  std::string do_compare_set(std::string_view key, std::string_view expected,
                             std::string_view desired, double timeout) override;
  bool do_delete(std::string_view key, double timeout) override;
  size_t do_wait_any(const std::vector<std::string>& keys, double timeout) override;
  int64_t do_delete_prefix(std::string_view prefix, double timeout) override;
  void do_barrier(std::string_view name, int64_t count, double timeout) override;
  void do_join(std::string_view member, const MemberOptions& options, double timeout) override;
  void do_leave(double timeout) override;
  double do_seconds_since_contact() const override;

  std::string prefix_;
  std::shared_ptr<Store> inner_;
};

}  // namespace weft::inline v0::dist
