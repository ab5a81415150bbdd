// The Accelerator's verbs for one process or the other: order, parts, padding.
#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/dist/accelerator.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/environment.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

std::vector<int> numbers(int count) {
  std::vector<int> all;
  for (int i = 0; i < count; ++i) all.push_back(i);
  return all;
}

}  // namespace

TEST_CASE("accelerator: on_main_process and its kin run on one process alone") {
  std::atomic<int> main = 0, local = 0, last = 0, second = 0;
  check_on_ranks(3, [&](const Group& group, Problems& problems) {
    const Accelerator accelerator({.group = group});
    problems.expect(accelerator.is_last_process() == (group.rank() == 2), "is_last_process");
    accelerator.on_main_process([&] { main += 1 + group.rank(); });
    accelerator.on_local_main_process([&] { local += 1 + group.rank(); });
    accelerator.on_last_process([&] { last += 1 + group.rank(); });
    accelerator.on_process(1, [&] { second += 1 + group.rank(); });
  });
  CHECK(main == 1);
  CHECK(local == 1);
  CHECK(last == 3);
  CHECK(second == 2);
}

TEST_CASE("accelerator: main_process_first runs there first, and hands on what it returns") {
  std::atomic<int> done = 0;
  check_on_ranks(4, [&](const Group& group, Problems& problems) {
    const Accelerator accelerator({.group = group});
    const int place = accelerator.main_process_first([&] { return done++; });
    problems.expect((place == 0) == (group.rank() == 0), "the main process is first");
    bool ran = false;
    accelerator.local_main_process_first([&] { ran = true; });
    problems.expect(ran, "a body without a result");
  });
  CHECK(done == 4);
}

TEST_CASE("accelerator: what the main process throws first reaches all, and they go on") {
  check_on_ranks(3, [&](const Group& group, Problems& problems) {
    const Accelerator accelerator({.group = group});
    bool ran = false;
    const auto fill = [&] {
      ran = true;
      throw IoError("cache: disk full");
    };
    if (group.rank() == 0) {
      const std::string text = text_of<IoError>([&] { accelerator.main_process_first(fill); });
      problems.expect(text == "cache: disk full", text);
    } else {
      const std::string text = text_of<Error>([&] { accelerator.main_process_first(fill); });
      problems.expect(!ran, "ran although the first failed");
      problems.expect(
          text == "main_process_first: rank 0, which goes first, failed: cache: disk full", text);
    }
    const auto throw_number = [&] {
      accelerator.local_main_process_first([&] {
        if (group.rank() == 0) throw 7;
      });
    };
    std::string odd;
    try {
      odd = text_of<Error>(throw_number);
    } catch (int number) {
      odd = std::to_string(number);
    }
    problems.expect(
        group.rank() == 0 ? odd == "7" : odd.ends_with("an exception of an unknown type"), odd);
    accelerator.wait_for_everyone();
  });
}

TEST_CASE("accelerator: what failed first is what comes out, though the group has ended too") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Accelerator accelerator({.group = group});
    const auto fill = [&] {
      group.abort("ended meanwhile");
      throw IoError("cache: disk full");
    };
    const std::string text =
        group.rank() == 0 ? text_of<IoError>([&] { accelerator.main_process_first(fill); })
                          : text_of<CommError>([&] { accelerator.main_process_first(fill); });
    problems.expect(
        text == (group.rank() == 0 ? "cache: disk full"
                                   : "group 'fake': aborted by rank 0: ended meanwhile"),
        text);
  });
}

TEST_CASE("accelerator: split_between_processes gives the first ranks one more") {
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    const Accelerator accelerator({.group = group});
    const auto rank = static_cast<size_t>(group.rank());
    const auto part = accelerator.split_between_processes(numbers(17));
    const std::vector<int> starts = {0, 6, 12}, counts = {6, 6, 5};
    problems.expect(static_cast<int>(part.size()) == counts[rank] && part[0] == starts[rank], "17");

    const auto padded = accelerator.split_between_processes(numbers(17), true);
    problems.expect(padded.size() == 6 && (rank != 2 || padded[5] == 16), "17, padded");
    const Tensor gathered = accelerator.gather(tensor(padded));
    const auto all = gathered.slice(0, 0, 17).to_vector<int>();
    problems.expect(all == numbers(17), "padded parts gathered");

    // Fewer items than ranks: no item comes twice, unless padding is asked for.
    problems.expect(accelerator.split_between_processes(numbers(1)).size() == (rank == 0 ? 1u : 0u),
                    "one item");
    problems.expect(accelerator.split_between_processes(numbers(1), true).size() == 1, "padded");
    problems.expect(accelerator.split_between_processes(numbers(0), true).empty(), "nothing");

    const Tensor rows = tensor(numbers(8)).reshape({4, 2});
    const Tensor own = accelerator.split_between_processes(rows);
    problems.expect(own.shape() == Shape{rank == 0 ? 2 : 1, 2}, "a tensor");
    const Tensor even = accelerator.split_between_processes(rows, true);
    problems.expect(even.shape() == Shape{2, 2}, "a tensor, padded");
    problems.expect(rank != 2 || even.to_vector<int>() == std::vector<int>{6, 7, 6, 7}, "padding");

    const std::map<std::string, std::vector<std::string>> texts = {{"a", {"x", "y", "z"}},
                                                                   {"b", {"u", "v", "w"}}};
    const auto of_map = accelerator.split_between_processes(texts);
    problems.expect(of_map.at("b") == std::vector<std::string>{texts.at("b")[rank]}, "a map");
    const std::map<std::string, Tensor> tensors = {{"t", arange(0, 3)}};
    problems.expect(accelerator.split_between_processes(tensors).at("t").numel() == 1, "tensors");
  });
  const Accelerator alone({.group = Group()});
  CHECK(alone.split_between_processes(numbers(5), true) == numbers(5));
  check_error<ArgumentError>("split_0d", [&] { alone.split_between_processes(full({}, 1)); });
}

TEST_CASE("accelerator: pad_across_processes makes all as long as the longest") {
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    const Accelerator accelerator({.group = group});
    const int64_t rows = 1 + group.rank();
    const Tensor value = full({rows, 2}, 1, {.dtype = DType::i32});
    const Tensor after = accelerator.pad_across_processes(value, 0, 9);
    problems.expect(after.shape() == Shape{3, 2} && after.dtype() == DType::i32, "shape");
    const auto values = after.to_vector<int>();
    problems.expect(values.front() == 1 && values.back() == (rows == 3 ? 1 : 9), "behind");
    const auto before = accelerator.pad_across_processes(value, -2, 9, true).to_vector<int>();
    problems.expect(before.back() == 1 && before.front() == (rows == 3 ? 1 : 9), "before");
    const Tensor columns = accelerator.pad_across_processes(value.transpose(0, 1), 1);
    problems.expect(columns.shape() == Shape{2, 3}, "another dim");
    problems.expect(accelerator.pad_across_processes(columns).is_same(columns), "nothing to do");
  });
  const Accelerator alone({.group = Group()});
  check_error<ArgumentError>("pad_dim", [&] { alone.pad_across_processes(zeros({2, 3}), 2); });
}

TEST_CASE("accelerator: the generator's state comes from the main process") {
  const PhiloxState before = random_state();
  manual_seed(7);
  const Tensor drawn = rand({5});
  const PhiloxState state = random_state();
  const Accelerator alone({.group = Group()});
  alone.synchronize_rng_states();
  CHECK(random_state().seed == state.seed);
  CHECK(random_state().offset == state.offset);
  set_random_state(before);
}
