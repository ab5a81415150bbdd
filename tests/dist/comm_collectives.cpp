// Collectives against sums done in f64, on ranks that are threads.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/tests/dist/oracle.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

// Below and above the limits of the small and the staged way (16 KiB, 512 KiB), with odd ends.
const std::vector<int64_t> kCounts = {0, 1, 13, 5'000, 150'001};

}  // namespace

TEST_CASE("all_reduce: every dtype and operation against f64, 1 to 4 ranks, every size") {
  for (int size = 1; size <= 4; ++size)
    check_on_ranks(size, [](const Group& group, Problems& problems) {
      check_all_reduce(group, problems, kCounts, 5'000);
    });
}

TEST_CASE("reductions: added in pairs, whatever the size of the data and where it lies") {
  for (const int size : {2, 3, 4, 5, 6})
    check_on_ranks(size, [](const Group& group, Problems& problems) {
      check_order(group, problems, {13, 9'001});
    });
  for (const int size : {7, 8, 9, 13, 21})
    check_on_ranks(size, [](const Group& group, Problems& problems) {
      check_order(group, problems, {13, 1'003});
    });
}

TEST_CASE("all_reduce: shared memory at other places, or on some ranks alone") {
  check_on_ranks(3, [](const Group& group, Problems& problems) {
    const int64_t count = 100'000;
    const size_t bytes = static_cast<size_t>(count) * 4;
    const Storage first = group.allocate_shared(bytes), second = group.allocate_shared(2 * bytes);
    problems.expect(std::all_of(second->data, second->data + 2 * bytes,
                                [](std::byte b) { return b == std::byte{0}; }),
                    "shared memory starts as zeros");
    const Tensor own = empty({count});
    std::byte* const places[] = {first->data, second->data + 4 * (group.rank() % 2),
                                 group.rank() == 1 ? own.storage()->data : first->data};
    for (std::byte* place : places) {
      const Tensor tensor = from_blob(place, {count}, DType::f32);
      auto* values = reinterpret_cast<float*>(place);
      for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(group.rank() + i % 5);
      group.all_reduce(tensor);
      bool right = true;
      for (int64_t i = 0; i < count; ++i) right &= values[i] == static_cast<float>(3 + 3 * (i % 5));
      problems.expect(right, "sum");
    }
  });
}

TEST_CASE("all_reduce: shared memory can be given back and asked for again") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    for (int round = 0; round < 20; ++round) {
      const Storage memory = group.allocate_shared(64 << 10);
      auto* values = reinterpret_cast<float*>(memory->data);
      for (int i = 0; i < 16'384; ++i) values[i] = static_cast<float>(round);
      group.all_reduce(from_blob(values, {16'384}, DType::f32), ReduceOp::avg);
      problems.expect(values[16'383] == static_cast<float>(round), "average");
    }
    const Storage nothing = group.allocate_shared(0);
    problems.expect(nothing->bytes == 0, "no bytes");
  });
}

TEST_CASE("all_reduce: 16-bit floats are added in f32 and rounded once") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    // Every value of f16, plus nothing: what comes back is what went in.
    std::vector<float16> all(65'536);
    for (size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<uint16_t>(i);
    std::vector<float16> mine = all;
    if (group.rank() == 1) std::fill(mine.begin(), mine.end(), float16());
    const Tensor halves = from_host(mine.data(), {65'536}, DType::f16);
    group.all_reduce(halves);
    const auto* back = reinterpret_cast<const float16*>(halves.storage()->data);
    size_t wrong = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const float expected = static_cast<float>(all[i]), got = static_cast<float>(back[i]);
      const bool nan = std::isnan(expected);
      wrong += nan ? !std::isnan(got) : got != expected;
    }
    problems.expect(wrong == 0, std::to_string(wrong) + " values of f16 change");

    std::mt19937 random(5);
    std::vector<float16> a(50'000), b(50'000);
    std::vector<bfloat16> c(50'000), d(50'000);
    for (size_t i = 0; i < a.size(); ++i) {
      // From the smallest numbers to the largest, sums beyond the range included.
      a[i].bits = static_cast<uint16_t>(random() % 0x7c00 | (random() & 0x8000));
      b[i].bits = static_cast<uint16_t>(random() % 0x7c00 | (random() & 0x8000));
      c[i].bits = static_cast<uint16_t>(random() % 0x7f80 | (random() & 0x8000));
      d[i].bits = static_cast<uint16_t>(random() % 0x7f80 | (random() & 0x8000));
    }
    const bool first = group.rank() == 0;
    const Tensor h = from_host(first ? a.data() : b.data(), {50'000}, DType::f16);
    const Tensor w = from_host(first ? c.data() : d.data(), {50'000}, DType::bf16);
    group.all_reduce(h);
    group.all_reduce(w);
    const auto* sums = reinterpret_cast<const float16*>(h.storage()->data);
    const auto* wide_sums = reinterpret_cast<const bfloat16*>(w.storage()->data);
    for (size_t i = 0; i < a.size(); ++i) {
      wrong += sums[i] != float16(static_cast<float>(a[i]) + static_cast<float>(b[i]));
      wrong += wide_sums[i] != bfloat16(static_cast<float>(c[i]) + static_cast<float>(d[i]));
    }
    problems.expect(wrong == 0, std::to_string(wrong) + " sums are rounded otherwise");
  });
}

TEST_CASE("all_reduce: whole numbers wrap, NaN wins min and max, negative numbers are ordered") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Tensor bytes = full({3}, 100, {.dtype = DType::i8});
    group.all_reduce(bytes);
    problems.expect(bytes.to_vector<int64_t>()[2] == -56, "i8 sum wraps");
    const Tensor shorts = full({3}, 300, {.dtype = DType::i16});
    group.all_reduce(shorts, ReduceOp::prod);
    problems.expect(shorts.to_vector<int64_t>()[0] == static_cast<int16_t>(90'000), "i16 wraps");
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const ReduceOp op : {ReduceOp::min, ReduceOp::max})
      for (const int holder : {0, 1}) {
        const Tensor t = full({1}, group.rank() == holder ? nan : 1.0f);
        group.all_reduce(t, op);
        problems.expect(std::isnan(t.item<float>()), "NaN");
      }
    const Tensor least = full({1}, group.rank() == 0 ? -5 : 3, {.dtype = DType::i32});
    group.all_reduce(least, ReduceOp::min);
    problems.expect(least.item<int>() == -5, "min of i32");
  });
}

TEST_CASE("all_reduce: strided tensors, leaves that require grad, tensors on sim") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Tensor matrix = values_of(group.rank(), DType::f32, {30, 40});
    const Tensor expected = make(DType::f32, {30, 40}, [](int64_t i) {
      return i % 40 < 20 ? combined(DType::f32, ReduceOp::sum, 2, i) : 0;
    });
    group.all_reduce(matrix.slice(1, 0, 20));
    problems.expect(first_difference(matrix.slice(1, 0, 20), expected.slice(1, 0, 20)).empty(),
                    "left half");
    const Tensor rest = values_of(group.rank(), DType::f32, {30, 40});
    problems.expect(first_difference(matrix.slice(1, 20, 40), rest.slice(1, 20, 40)).empty(),
                    "right half");
    const Tensor leaf = full({4}, 1.0, {.requires_grad = true});
    group.all_reduce(leaf);
    problems.expect(leaf.is_leaf() && leaf.detach().to_vector<float>()[3] == 2, "leaf");
    const Tensor remote = full({1000}, group.rank() + 1.0, {.device = Device::sim()});
    group.all_reduce(remote);
    problems.expect(remote.to_vector<float>() == std::vector<float>(1000, 3.0f), "sim");
  });
}

TEST_CASE("all_gather, gather, broadcast, scatter, reduce_scatter, all_to_all: 1 to 4 ranks") {
  for (int size = 1; size <= 4; ++size)
    check_on_ranks(size, [](const Group& group, Problems& problems) {
      check_moves(group, problems, kCounts, {DType::boolean, DType::i16, DType::f32, DType::f64});
    });
}

TEST_CASE("send and recv: any size, both ways, between any two") {
  check_on_ranks(
      3, [](const Group& group, Problems& problems) { check_messages(group, problems, kCounts); });
}

TEST_CASE("split: groups by color, ordered by key, beside their parent") {
  check_on_ranks(4, [](const Group& group, Problems& problems) {
    const int rank = group.rank();
    const Group half = group.split(rank % 2, -rank);
    problems.expect(half.size() == 2 && half.rank() == (rank < 2 ? 1 : 0), "ranks by key");
    const Tensor sum = full({1}, rank);
    half.all_reduce(sum);
    problems.expect(sum.item<int>() == (rank % 2 == 0 ? 2 : 4), "sum in the half");
    const Group again = half.split(0);
    problems.expect(again.size() == 2, "split of a split");
    const Group alone = group.split(rank == 3 ? -1 : 0);
    problems.expect(alone.size() == (rank == 3 ? 1 : 3), "a negative color is a group of one");
    const Tensor total = full({1}, 1);
    group.all_reduce(total);
    problems.expect(total.item<int>() == 4, "the parent goes on");
  });
}

TEST_CASE("strings of bytes, overlapping parts, shared memory: 1 to 4 ranks") {
  for (int size = 1; size <= 4; ++size)
    check_on_ranks(size, [](const Group& group, Problems& problems) {
      check_bytes(group, problems);
      check_splits(group, problems);
      check_shared_memory(group, problems, 300'001);
    });
}

TEST_CASE("a group of one: every collective is a copy") {
  const Group group;
  CHECK(group.size() == 1);
  CHECK(group.rank() == 0);
  const Tensor tensor = values_of(0, DType::f32, {4});
  group.all_reduce(tensor, ReduceOp::avg);
  group.broadcast(tensor);
  group.barrier();
  CHECK(first_difference(tensor, values_of(0, DType::f32, {4})).empty());
  CHECK(group.all_gather(tensor).shape() == Shape{1, 4});
  CHECK(group.gather(tensor).shape() == Shape{1, 4});
  CHECK(first_difference(group.reduce_scatter(tensor), tensor).empty());
  CHECK(first_difference(group.all_to_all(tensor), tensor).empty());
  const Tensor part = empty({4});
  group.scatter(part, group.all_gather(tensor));
  CHECK(first_difference(part, tensor).empty());
  CHECK(group.allocate_shared(100)->bytes == 100);
  CHECK(group.split(3).size() == 1);
  group.abort("enough");
  check_error<CommError>("group_single_aborted", [&] { group.barrier(); });
}

TEST_CASE("collectives: arguments that no rank could use are refused and end nothing") {
  check_on_ranks(2, [](const Group& group, Problems& problems) {
    const Tensor three = full({3}, 1.0), none = full({}, 1.0);
    const auto refused = [&](const char* text, const std::function<void()>& action) {
      const std::string got = text_of<ArgumentError>(action);
      problems.expect(got == text, got);
    };
    refused("all_reduce: avg needs a floating dtype, not i64; sum and divide instead",
            [&] { group.all_reduce(full({2}, 1), ReduceOp::avg); });
    refused("broadcast: rank 2 of a group of 2", [&] { group.broadcast(three, 2); });
    refused("gather: rank -1 of a group of 2", [&] { group.gather(three, -1); });
    refused(
        group.rank() == 0 ? "send: rank 0 is this rank itself" : "send: rank 1 is this rank itself",
        [&] { group.send(three, group.rank()); });
    refused("reduce_scatter: the first dim of [3] does not divide by the 2 ranks",
            [&] { group.reduce_scatter(three); });
    refused("all_to_all: the first dim of [] does not divide by the 2 ranks",
            [&] { group.all_to_all(none); });
    if (group.rank() == 0)
      refused("scatter: the root's rows are f32 [3], not f32 [2, 3]",
              [&] { group.scatter(three, three); });
    // Were the ranks to meet first, the barrier would be one too many on the other side.
    const Tensor expanded = full({1}, 1.0).expand({3});
    const std::string why =
        ": the result goes to an expanded tensor of shape [3], whose elements share memory; "
        "clone() it first";
    const Tensor rows = full({2, 3}, 1.0);
    refused(("all_reduce" + why).c_str(), [&] { group.all_reduce(expanded); });
    if (group.rank() == 0) {
      refused(("broadcast" + why).c_str(), [&] { group.broadcast(expanded); });
      refused(("scatter" + why).c_str(), [&] { group.scatter(expanded, rows); });
      refused(("recv" + why).c_str(), [&] { group.recv(expanded, 1); });
    }
    group.barrier();
  });
  const Group group;
  check_error<ArgumentError>("group_avg_dtype",
                             [&] { group.all_reduce(full({2}, 1), ReduceOp::avg); });
  check_error<ArgumentError>("group_bitwise_dtype",
                             [&] { group.all_reduce(full({2}, 1.0), ReduceOp::bxor); });
  check_error<ArgumentError>("group_expanded",
                             [&] { group.all_reduce(full({}, 1.0).expand({2})); });
  check_error<ArgumentError>("group_rank", [&] { group.broadcast(full({2}, 1.0), 5); });
  check_error<ArgumentError>("group_send_self", [&] { group.send(full({2}, 1.0), 0); });
  check_error<ArgumentError>("group_divide", [&] { group.reduce_scatter(full({}, 1.0)); });
  check_error<ArgumentError>("group_scatter_rows",
                             [&] { group.scatter(full({3}, 1.0), full({3}, 1.0)); });
  check_error<ArgumentError>("group_stack_rank", [&] {
    group.all_gather(full({1, 1, 1, 1, 1, 1, 1, 1}, 1.0));
  });
  check_error<ArgumentError>("group_fake_size", [] { run_fake_group(0, [](const Group&) {}); });
}
