// What ends a group that spans nodes, on ranks that are threads.
#include <doctest/doctest.h>

#include <mutex>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

const std::vector<std::vector<int>> kLayouts = {{0, 0, 1, 1}, {0, 1, 1}, {0, 1, 2}};

/// What each rank's E says when rank r calls `call(group)`: the same on all, and the group must
/// stay ended with it.
template <class E>
std::string error_on_all(const std::vector<int>& node_of,
                         const std::function<void(const Group&)>& call, double timeout = 60) {
  std::mutex mutex;
  std::vector<std::string> texts(node_of.size()), later(node_of.size());
  run_fake_nodes(
      node_of,
      [&](const Group& group) {
        const std::string text = text_of<E>([&] { call(group); });
        const std::string after = text_of<E>([&] { group.barrier(); });
        const std::lock_guard lock(mutex);
        texts[static_cast<size_t>(group.rank())] = text;
        later[static_cast<size_t>(group.rank())] = after;
      },
      timeout);
  for (size_t r = 0; r < node_of.size(); ++r) {
    CHECK(texts[r] == texts[0]);
    CHECK(later[r] == texts[0]);
  }
  return texts[0];
}

template <class E>
void check_text(const std::string& name, const std::string& text,
                const Normalise& normalise = nullptr) {
  check_error<E>(
      name, [&] { throw E(text); }, normalise);
}

/// What rank `odd` calls is not what the others call: all learn it, and no data has moved.
void check_desync(const std::function<void(const Group&, const Tensor&)>& others,
                  const std::function<void(const Group&, const Tensor&)>& own,
                  const std::vector<std::string>& words) {
  for (const std::vector<int>& layout : kLayouts)
    for (int odd = 0; odd < static_cast<int>(layout.size()); ++odd) {
      CAPTURE(layout.size());
      CAPTURE(odd);
      std::mutex mutex;
      int touched = 0;
      const std::string text = error_on_all<DesyncError>(layout, [&](const Group& group) {
        const Tensor data = full({60'000}, group.rank() + 1.0);
        try {
          group.rank() == odd ? own(group, data) : others(group, data);
        } catch (const DesyncError&) {
          const std::vector<double> values = data.to_vector<double>();
          const std::lock_guard lock(mutex);
          for (const double value : values) touched += value != group.rank() + 1.0;
          throw;
        }
      });
      CHECK(touched == 0);
      for (const std::string& word : words)
        CHECK_MESSAGE(text.find(word) != std::string::npos, text);
      CHECK_MESSAGE(text.find("rank " + std::to_string(odd) + " called") != std::string::npos,
                    text);
    }
}

}  // namespace

TEST_CASE("spanning desync: count, dtype, operation, root, order, one call too many") {
  const auto sum = [](const Group& group, const Tensor& data) { group.all_reduce(data); };
  check_desync(
      sum,
      [](const Group& group, const Tensor& data) { group.all_reduce(data.slice(0, 0, 59'999)); },
      {"all_reduce #2 (f32 [60000], sum)", "all_reduce #2 (f32 [59999], sum)"});
  check_desync(
      sum, [](const Group& group, const Tensor& data) { group.all_reduce(data.to(DType::f64)); },
      {"(f32 [60000], sum)", "(f64 [60000], sum)"});
  check_desync(
      sum, [](const Group& group, const Tensor& data) { group.all_reduce(data, ReduceOp::max); },
      {"(f32 [60000], sum)", "(f32 [60000], max)"});
  check_desync(sum, [](const Group& group, const Tensor& data) { group.broadcast(data); },
               {"all_reduce #2", "broadcast #2 (f32 [60000], from rank 0)"});
  check_desync([](const Group& group, const Tensor& data) { group.broadcast(data, 0); },
               [](const Group& group, const Tensor& data) { group.broadcast(data, 1); },
               {"from rank 0", "from rank 1"});
  check_desync(
      [](const Group& group, const Tensor& data) {
        group.barrier();
        group.all_reduce(data);
      },
      [](const Group& group, const Tensor& data) {
        group.all_reduce(data);
        group.barrier();
      },
      {"barrier #2", "all_reduce #2"});
  check_desync(
      [](const Group& group, const Tensor& data) {
        group.barrier();
        group.all_gather(data);
      },
      [](const Group& group, const Tensor& data) {
        group.barrier();
        group.barrier();
        group.all_gather(data);
      },
      {"barrier #3", "all_gather #3 (f32 [60000])"});
}

TEST_CASE("spanning desync: the text") {
  check_text<DesyncError>("spanning_desync",
                          error_on_all<DesyncError>({0, 0, 1, 1}, [](const Group& group) {
                            if (group.rank() < 2)
                              group.all_reduce(full({2, 3}, 1.0));
                            else
                              group.broadcast(full({2, 3}, 1.0), 1);
                          }));
}

TEST_CASE("spanning desync: shared memory of different sizes, or asked for by one host alone") {
  const std::string sizes = error_on_all<DesyncError>({0, 0, 1, 1}, [](const Group& group) {
    group.allocate_shared(group.rank() < 2 ? 4096 : 8192);
  });
  const std::string alone = error_on_all<DesyncError>({0, 0, 1, 1}, [](const Group& group) {
    if (group.rank() < 2)
      group.allocate_shared(4096);
    else
      group.barrier();
  });
  for (const std::string& text : {sizes, alone})
    CHECK_MESSAGE(
        text.find("ranks 0, 1 called allocate_shared #2 (4096 bytes)") != std::string::npos, text);
  CHECK_MESSAGE(
      sizes.find("ranks 2, 3 called allocate_shared #2 (8192 bytes)") != std::string::npos, sizes);
}

TEST_CASE("spanning desync: messages") {
  check_text<DesyncError>("spanning_desync_message",
                          error_on_all<DesyncError>({0, 1, 1}, [](const Group& group) {
                            if (group.rank() == 0) group.send(full({4}, 1.0), 2);
                            if (group.rank() == 2) group.recv(full({2, 2}, 1.0), 0);
                            group.barrier();
                          }));
  check_text<DesyncError>("spanning_desync_both_send",
                          error_on_all<DesyncError>({0, 1}, [](const Group& group) {
                            group.send(full({4}, 1.0), 1 - group.rank());
                          }));
  check_text<DesyncError>("spanning_desync_message_collective",
                          error_on_all<DesyncError>({0, 0, 1, 1}, [](const Group& group) {
                            if (group.rank() == 3)
                              group.recv(full({4}, 1.0), 1);
                            else
                              group.all_reduce(full({4}, 1.0));
                          }));
}

TEST_CASE("spanning: a rank that never comes is named on all nodes") {
  for (const std::vector<int>& layout : kLayouts) {
    const int last = static_cast<int>(layout.size()) - 1;
    const std::string text = error_on_all<TimeoutError>(
        layout,
        [&](const Group& group) {
          group.barrier();
          if (group.rank() != last) group.all_reduce(full({10}, 1.0));
          // It stays in the group until the others have given up.
          while (true) {
            group.check_alive();
            std::this_thread::yield();
          }
        },
        0.5);
    CHECK_MESSAGE(text.find("rank " + std::to_string(last)) != std::string::npos, text);
    CHECK_MESSAGE(text.find("all_reduce #3 (f32 [10], sum)") != std::string::npos, text);
  }
}

TEST_CASE("spanning: a rank that leaves is lost to all nodes") {
  for (const std::vector<int>& layout : kLayouts)
    for (int leaver = 0; leaver < static_cast<int>(layout.size()); ++leaver) {
      std::mutex mutex;
      std::vector<std::string> texts;
      run_fake_nodes(
          layout,
          [&](const Group& group) {
            group.barrier();
            if (group.rank() == leaver) return;
            const std::string text = text_of<PeerLost>([&] {
              while (true) group.all_reduce(full({10}, 1.0));
            });
            const std::lock_guard lock(mutex);
            texts.push_back(text);
          },
          60);
      CHECK(texts.size() == layout.size() - 1);
      // Two nodes may notice it at once, each in its own words.
      for (const std::string& text : texts) {
        CHECK_MESSAGE(text.find("left") != std::string::npos, text);
        CHECK_MESSAGE(text.find("rank " + std::to_string(leaver)) != std::string::npos, text);
      }
    }
}

TEST_CASE("spanning: abort ends the group on all nodes, from any thread") {
  check_text<CommError>("spanning_aborted",
                        error_on_all<CommError>({0, 0, 1, 1}, [](const Group& group) {
                          if (group.rank() == 3) {
                            std::thread other([&] { group.abort("the user asked for it"); });
                            other.join();
                          }
                          while (true) group.all_reduce(full({100'000}, 1.0));
                        }));
}

TEST_CASE("groups used from two threads in different order do not wait for each other") {
  const auto body = [](const Group& group, Problems& problems) {
    const Group first = group.split(0), second = group.split(0);
    // One thread for each group; which of them comes first differs from rank to rank.
    const auto use = [&](const Group& its, double value) {
      for (int i = 0; i < 20; ++i) {
        const Tensor t = full({3'000}, value);
        its.all_reduce(t);
        problems.expect(t.to_vector<double>()[2'999] == value * group.size(), "sum");
      }
    };
    const bool swap = group.rank() % 2 == 1;
    std::thread other([&] { use(swap ? first : second, swap ? 1 : 2); });
    use(swap ? second : first, swap ? 2 : 1);
    other.join();
  };
  check_on_ranks(3, body);
  check_on_nodes({0, 0, 1}, body);
}
