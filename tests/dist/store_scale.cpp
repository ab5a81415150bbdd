// A thousand clients of one server.
#include <doctest/doctest.h>

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/skip.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

/// Raises this process's limit of descriptors to `count`, until the end of the scope.
class Descriptors {
 public:
  explicit Descriptors(rlim_t count) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit raised = before_;
    raised.rlim_cur = std::max(raised.rlim_cur, count);
    enough_ = raised.rlim_cur <= raised.rlim_max && ::setrlimit(RLIMIT_NOFILE, &raised) == 0;
  }
  ~Descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  bool enough() const { return enough_; }
  rlim_t hard() const { return before_.rlim_max; }

 private:
  rlimit before_{};
  bool enough_ = false;
};

/// `count` clients meet: each says where it is, waits for all, and looks up its neighbour. Returns
/// how many saw what they should.
int rendezvous(const TcpStoreOptions& options, int count) {
  std::atomic<int> through = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      TcpStoreOptions own = options;
      own.rank = i;
      TcpStore store(own);
      store.join("rank " + std::to_string(i));
      store.set("address/" + std::to_string(i), std::to_string(i * i));
      store.barrier("all", count);
      const int next = (i + 1) % count;
      const bool right =
          store.get("address/" + std::to_string(next)) == std::to_string(next * next);
      store.leave();
      if (right) ++through;
    });
  for (std::thread& thread : threads) thread.join();
  return through;
}

}  // namespace

TEST_CASE("store: 1,000 clients meet within seconds") {
#ifdef WEFT_SANITIZED
  constexpr int kClients = 100;  // threads are many times slower
#else
  constexpr int kClients = 1000;
#endif
  const Descriptors descriptors(4 * kClients);
  if (!descriptors.enough())
    WEFT_SKIP(std::to_string(4 * kClients) + " descriptors are needed, the hard limit is " +
              std::to_string(descriptors.hard()));
  Reports reports;
  StoreServer server({.token = kToken, .report = reports.sink()});
  int through = 0;
  const double seconds = seconds_of([&] {
    through = rendezvous({.port = server.port(), .token = kToken, .timeout = 100}, kClients);
  });
  MESSAGE(kClients << " clients: " << seconds << " s");
  CHECK(through == kClients);
  CHECK(reports.count() == 0);
  CHECK(seconds < 60);  // about 1 s on 2 idle cores
}
