// Loops over several threads.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

// Sets the number of threads for the time of a test.
class Threads {
 public:
  explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
  ~Threads() { set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace

TEST_CASE("parallel_for covers every element once, whatever the sizes") {
  for (const int threads : {1, 2, 5}) {
    const Threads guard(threads);
    CHECK(num_threads() == threads);
    for (const int64_t n : {0, 1, 7, 64, 1000, 4097}) {
      for (const int64_t grain : {1, 3, 64, 5000}) {
        CAPTURE(n);
        CAPTURE(grain);
        std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
        parallel_for(n, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        int64_t once = 0;
        for (const auto& count : visits) once += count == 1;
        CHECK(once == n);
      }
    }
  }
}

TEST_CASE("parallel_for runs in one piece below the grain, and inside another loop") {
  const Threads guard(4);
  int calls = 0;
  parallel_for(100, 100, [&](int64_t begin, int64_t end) {
    ++calls;
    CHECK(begin == 0);
    CHECK(end == 100);
  });
  CHECK(calls == 1);
  std::atomic<int> pieces{0}, outer{0};
  parallel_for(8, 1, [&](int64_t begin, int64_t end) {
    outer += static_cast<int>(end - begin);
    for (int64_t i = begin; i < end; ++i)
      parallel_for(1000, 1, [&](int64_t first, int64_t last) { pieces += last - first == 1000; });
  });
  CHECK(outer == 8);
  CHECK(pieces == 8);
}

TEST_CASE("parallel_for hands the exception of a body to its caller, and works afterwards") {
  for (const int threads : {1, 3}) {
    const Threads guard(threads);
    const auto loop = [] {
      parallel_for(1000, 1, [](int64_t begin, int64_t end) {
        if (begin <= 500 && 500 < end) throw ArgumentError("element 500");
      });
    };
    CHECK_THROWS_WITH_AS(loop(), "element 500", ArgumentError);
    std::atomic<int64_t> sum{0};
    parallel_for(1000, 10, [&](int64_t begin, int64_t end) { sum += end - begin; });
    CHECK(sum == 1000);
  }
}

TEST_CASE("several threads of the program may run loops at the same time") {
  const Threads guard(2);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t)
    callers.emplace_back([&] {
      for (int round = 0; round < 50; ++round)
        parallel_for(64, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(sum == 4 * 50 * 64);
}

TEST_CASE("set_num_threads refuses what is no number of threads") {
  check_error<ArgumentError>("threads_none", [] { set_num_threads(0); });
  CHECK_THROWS_AS(set_num_threads(-2), ArgumentError);
  CHECK_THROWS_AS(set_num_threads(100000), ArgumentError);
}
