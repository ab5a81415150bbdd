// What ends a group, on ranks that are threads.
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/comm/ticks.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

template <size_t N>
using Texts = std::array<std::string, N>;

/// What each rank's E says when rank r calls `call(group)`; the group must stay ended.
template <class E, size_t N>
Texts<N> errors_on(const std::function<void(const Group&)>& call, double timeout = 60) {
  Texts<N> texts, later;
  run_fake_group(
      N,
      [&](const Group& group) {
        const auto rank = static_cast<size_t>(group.rank());
        texts[rank] = text_of<E>([&] { call(group); });
        later[rank] = text_of<E>([&] { group.barrier(); });
      },
      timeout);
  for (size_t r = 0; r < N; ++r) CHECK(later[r] == texts[0]);
  return texts;
}

/// Holds a text that all ranks share against tests/goldens/errors.txt.
template <class E, size_t N>
void check_all(const std::string& name, const Texts<N>& texts,
               const Normalise& normalise = nullptr) {
  for (const std::string& text : texts) CHECK(text == texts[0]);
  check_error<E>(
      name, [&] { throw E(texts[0]); }, normalise);
}

}  // namespace

TEST_CASE("desync: different operations") {
  check_all<DesyncError>("group_desync_op", errors_on<DesyncError, 3>([](const Group& group) {
                           if (group.rank() == 1)
                             group.barrier();
                           else
                             group.all_reduce(full({2, 3}, 1.0));
                         }));
}

TEST_CASE("desync: shapes, dtypes, operations, roots") {
  check_all<DesyncError>("group_desync_shape", errors_on<DesyncError, 2>([](const Group& group) {
                           group.all_reduce(full({2 + group.rank(), 3}, 1.0));
                         }));
  check_all<DesyncError>("group_desync_dtype", errors_on<DesyncError, 2>([](const Group& group) {
                           const DType dtype = group.rank() == 0 ? DType::f32 : DType::f64;
                           group.all_reduce(full({2}, 1.0, {.dtype = dtype}));
                         }));
  check_all<DesyncError>(
      "group_desync_reduce_op", errors_on<DesyncError, 2>([](const Group& group) {
        group.all_reduce(full({2}, 1.0), group.rank() == 0 ? ReduceOp::sum : ReduceOp::max);
      }));
  check_all<DesyncError>("group_desync_root", errors_on<DesyncError, 2>([](const Group& group) {
                           group.broadcast(full({2}, 1.0), group.rank());
                         }));
  check_all<DesyncError>("group_desync_size", errors_on<DesyncError, 2>([](const Group& group) {
                           group.allocate_shared(group.rank() == 0 ? 100 : 200);
                         }));
}

TEST_CASE("desync: large data does not move") {
  std::array<float, 2> after{};
  errors_on<DesyncError, 2>([&](const Group& group) {
    const Tensor values = full({100'000 + group.rank()}, 1.0 + group.rank());
    const std::string text = text_of<DesyncError>([&] { group.all_reduce(values); });
    after[static_cast<size_t>(group.rank())] = values.to_vector<float>()[99'999];
    throw DesyncError(text);
  });
  CHECK(after == std::array<float, 2>{1, 2});
}

TEST_CASE("desync: send and recv of different shapes") {
  check_all<DesyncError>("group_desync_message", errors_on<DesyncError, 2>([](const Group& group) {
                           if (group.rank() == 0)
                             group.send(full({4}, 1.0), 1);
                           else
                             group.recv(full({2, 2}, 1.0), 0);
                         }));
}

TEST_CASE("desync: a message whose peer waits in a collective") {
  check_all<DesyncError>("group_desync_send", errors_on<DesyncError, 2>([](const Group& group) {
                           if (group.rank() == 0)
                             group.send(full({4}, 1.0), 1);
                           else
                             group.barrier();
                         }));
  check_all<DesyncError>("group_desync_recv", errors_on<DesyncError, 3>([](const Group& group) {
                           if (group.rank() == 2)
                             group.recv(full({4}, 1.0), 0);
                           else
                             group.all_reduce(full({2}, 1.0));
                         }));
}

TEST_CASE("desync: two ranks that send to each other, or both receive") {
  check_all<DesyncError>("group_desync_both_send",
                         errors_on<DesyncError, 2>([](const Group& group) {
                           group.send(full({4}, 1.0), 1 - group.rank());
                         }));
  check_all<DesyncError>("group_desync_both_recv",
                         errors_on<DesyncError, 2>([](const Group& group) {
                           group.recv(full({4}, 1.0), 1 - group.rank());
                         }));
}

TEST_CASE("messages that come to meet each other in turn are none that cross") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    for (int i = 0; i < 300; ++i) {
      const Tensor there = full({70'000}, 1.0 * i), back = full({3}, i + 0.5);
      const Tensor got = zeros({group.rank() == 0 ? 3 : 70'000});
      if (group.rank() == 0) group.send(there, 1);
      group.recv(got, 1 - group.rank());
      if (group.rank() == 1) group.send(back, 0);
      problems.expect(got.to_vector<float>()[2] == (group.rank() == 0 ? i + 0.5F : i), "message");
    }
  });
}

TEST_CASE("allocate_shared: a size whose sum over all ranks wraps") {
  std::array<std::string, 4> texts;
  run_fake_group(4, [&](const Group& group) {
    texts[static_cast<size_t>(group.rank())] =
        text_of<OutOfMemory>([&] { group.allocate_shared((size_t{1} << 62) + 4096); });
    group.barrier();
  });
  for (const std::string& text : texts) CHECK(text == texts[0]);
  check_error<OutOfMemory>("group_shared_wraps", [&] { throw OutOfMemory(texts[0]); });
}

TEST_CASE("ticks that another CPU took a little ahead are none that passed") {
  CHECK(dist::detail::ticks_since(dist::detail::ticks() + 1'000'000'000) == 0);
  const uint64_t start = dist::detail::ticks();
  while (dist::detail::ticks_since(start) == 0) std::this_thread::yield();
}

TEST_CASE("a message before a collective of the same peer is none that waits for it") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    for (int i = 0; i < 500; ++i) {
      const Tensor value = full({4}, group.rank() == 0 ? i : -1);
      if (group.rank() == 0)
        group.send(value, 1);
      else
        group.recv(value, 0);
      group.barrier();
      problems.expect(value.to_vector<float>()[3] == static_cast<float>(i), "message");
    }
  });
}

TEST_CASE("a rank that leaves is lost to the others") {
  Texts<3> texts;
  std::array<int, 3> lost{};
  run_fake_group(3, [&](const Group& group) {
    group.barrier();
    if (group.rank() == 1) return;
    const auto rank = static_cast<size_t>(group.rank());
    try {
      group.all_reduce(full({2}, 1.0));
    } catch (const PeerLost& error) {
      texts[rank] = error.what();
      lost[rank] = error.rank();
    }
  });
  CHECK(lost[0] == 1);
  CHECK(lost[2] == 1);
  CHECK(texts[0] == texts[2]);
  check_error<PeerLost>(
      "group_left", [&] { throw PeerLost(1, texts[0]); }, without_digits);
}

TEST_CASE("a rank that leaves is noticed while another one is waited for") {
  std::array<int, 2> lost{-1, -1};
  run_fake_group(
      3,
      [&](const Group& group) {
        group.barrier();
        if (group.rank() == 2) return;
        try {
          // Rank 1 comes only when the group has ended, so that rank 0 waits for it first.
          while (group.rank() == 1) {
            group.check_alive();
            std::this_thread::yield();
          }
          group.barrier();
        } catch (const PeerLost& error) {
          lost[static_cast<size_t>(group.rank())] = error.rank();
        }
      },
      5);
  CHECK(lost == std::array<int, 2>{2, 2});
}

TEST_CASE("a rank that threw is lost, and what it threw is what comes out") {
  CHECK_THROWS_WITH_AS(run_fake_group(2,
                                      [](const Group& group) {
                                        if (group.rank() == 1) throw ArgumentError("rank 1 failed");
                                        group.barrier();
                                      }),
                       "rank 1 failed", ArgumentError);
}

TEST_CASE("a deadline names the ranks that are missing and their last calls") {
  Texts<3> texts;
  run_fake_group(
      3,
      [&](const Group& group) {
        group.all_reduce(full({8}, 1.0));
        // Rank 2 stays in the group, but does not come until the others have given up.
        if (group.rank() != 2)
          texts[static_cast<size_t>(group.rank())] =
              text_of<TimeoutError>([&] { group.all_gather(full({8}, 1.0)); });
        else
          while (texts[2] = text_of<TimeoutError>([&] { group.check_alive(); }),
                 texts[2] == "no error")
            std::this_thread::yield();
      },
      1);
  CHECK(texts[0] == texts[1]);
  CHECK(texts[0] == texts[2]);
  check_error<TimeoutError>(
      "group_timeout", [&] { throw TimeoutError(texts[0]); },
      [](std::string text) {
        // Ranks that are threads are in one process, whose state is whatever its main thread does.
        const size_t pid = text.find("(pid ") + 5;
        text.replace(pid, text.find(';', pid) - pid, "N, STATE");
        const size_t seconds = text.find(" s ago");
        const size_t begin = text.rfind(' ', seconds - 1) + 1;
        return text.replace(begin, seconds - begin, "S");
      });
}

TEST_CASE("set_timeout: a limit of this group alone") {
  const Texts<2> texts = errors_on<TimeoutError, 2>([](const Group& group) {
    group.set_timeout(0.05);
    if (group.rank() == 0) group.barrier();
    while (true) {
      group.check_alive();
      std::this_thread::yield();
    }
  });
  for (const std::string& text : texts) CHECK(text.find("after 0.05 s") != std::string::npos);
  check_error<ArgumentError>("group_set_timeout", [&] { Group().set_timeout(0); });
  Group().set_timeout(1);
  CHECK(Group().statistics().empty());
}

TEST_CASE("abort ends a group of one, from any thread, once") {
  const Group group;
  std::thread other([&] { group.abort("the user asked for it"); });
  while (text_of<CommError>([&] { group.check_alive(); }) == "no error") std::this_thread::yield();
  other.join();
  group.abort("again");
  CHECK_THROWS_WITH_AS(group.barrier(), doctest::Contains(": the user asked for it"), CommError);
}

TEST_CASE("abort ends the group for all, from any thread, once") {
  const Texts<2> texts = errors_on<CommError, 2>([](const Group& group) {
    if (group.rank() == 0) {
      std::thread other([&] {
        group.abort("the user asked for it");
        group.abort("again");
      });
      other.join();
    }
    group.all_reduce(full({1'000'000}, 1.0));
  });
  check_all<CommError>("group_aborted", texts);
}
