#include <weft/dist/store/tcp_store.hpp>

#include <memory>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/client.hpp>
#include <weft/dist/store/heartbeat.hpp>

namespace weft::inline v0::dist {

using namespace detail;

struct TcpStore::Impl {
  explicit Impl(TcpStoreOptions options) : client(std::move(options)) {}
  ~Impl() {
    if (heartbeat) heartbeat->stop();
    client.close();
  }

  StoreClient client;
  std::mutex joining;
  std::unique_ptr<Heartbeat> heartbeat;
};

TcpStore::TcpStore(TcpStoreOptions options)
    : Store(options.timeout), impl_(std::make_unique<Impl>(std::move(options))) {}

TcpStore::~TcpStore() = default;

void TcpStore::do_set(std::string_view key, std::string_view value, double timeout) {
  impl_->client.timed_call(
      {.kind = FrameKind::set, .strings = {std::string(key), std::string(value)}}, "set", timeout);
}

std::string TcpStore::do_get(std::string_view key, double timeout) {
  return impl_->client.timed_call({.kind = FrameKind::get, .strings = {std::string(key)}}, "get",
                                  timeout);
}

void TcpStore::do_wait(const std::vector<std::string>& keys, double timeout) {
  impl_->client.timed_call({.kind = FrameKind::wait, .strings = keys}, "wait", timeout);
}

bool TcpStore::do_check(const std::vector<std::string>& keys, double timeout) {
  return impl_->client.timed_call({.kind = FrameKind::check, .strings = keys}, "check", timeout) ==
         "1";
}

int64_t TcpStore::do_add(std::string_view key, int64_t amount, double timeout) {
  const std::string body = impl_->client.timed_call(
      {.kind = FrameKind::add, .amount = amount, .strings = {std::string(key)}}, "add", timeout);
  return Reader(body).take<int64_t>();
}

std::string TcpStore::do_compare_set(std::string_view key, std::string_view expected,
                                     std::string_view desired, double timeout) {
  return impl_->client.timed_call(
      {.kind = FrameKind::compare_set,
       .strings = {std::string(key), std::string(expected), std::string(desired)}},
      "compare_set", timeout);
}

bool TcpStore::do_delete(std::string_view key, double timeout) {
  return impl_->client.timed_call({.kind = FrameKind::erase, .strings = {std::string(key)}},
                                  "delete_key", timeout) == "1";
}

size_t TcpStore::do_wait_any(const std::vector<std::string>& keys, double timeout) {
  const std::string body =
      impl_->client.timed_call({.kind = FrameKind::wait_any, .strings = keys}, "wait_any", timeout);
  return Reader(body).take<uint32_t>();
}

int64_t TcpStore::do_delete_prefix(std::string_view prefix, double timeout) {
  const std::string body =
      impl_->client.timed_call({.kind = FrameKind::erase_prefix, .strings = {std::string(prefix)}},
                               "delete_prefix", timeout);
  return Reader(body).take<int64_t>();
}

void TcpStore::do_barrier(std::string_view name, int64_t count, double timeout) {
  impl_->client.timed_call(
      {.kind = FrameKind::barrier, .amount = count, .strings = {std::string(name)}}, "barrier",
      timeout);
}

void TcpStore::do_join(std::string_view member, const MemberOptions& options, double timeout) {
  const std::lock_guard lock(impl_->joining);
  WEFT_CHECK(ArgumentError, impl_->heartbeat == nullptr,
             "store: join as '{}': this process has joined already", member);
  impl_->client.call({.kind = FrameKind::join,
                      .timeout_us = static_cast<uint64_t>(std::min(options.limit, kForever) * 1e6),
                      .strings = {std::string(member), options.detail}},
                     "join", timeout + kServerSlack);
  impl_->heartbeat = std::make_unique<Heartbeat>(impl_->client, std::string(member), options);
}

void TcpStore::do_leave(double timeout) {
  const std::lock_guard lock(impl_->joining);
  WEFT_CHECK(ArgumentError, impl_->heartbeat != nullptr,
             "store: leave: this process has not joined");
  impl_->client.timed_call({.kind = FrameKind::leave}, "leave", timeout);
  impl_->heartbeat->stop();  // it ends by itself, as it sees that this member has left
  impl_->heartbeat.reset();
}

double TcpStore::do_seconds_since_contact() const { return impl_->client.seconds_since_contact(); }

}  // namespace weft::inline v0::dist
