// Groups that span nodes, on ranks that are threads: memory takes the network's place.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/tests/dist/oracle.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

namespace {

// Even nodes, uneven ones, ranks in no order, nodes of one.
const std::vector<std::vector<int>> kLayouts = {
    {0, 0, 1, 1}, {0, 1, 1}, {0, 1, 0, 1}, {0, 1, 2}, {0, 0, 1, 1, 2, 2}, {0, 0, 0, 1, 1, 2}};

// Riding along with the calls, in one chunk, in several; ends that do not divide.
const std::vector<int64_t> kCounts = {0, 1, 13, 5'000, 40'001};

}  // namespace

TEST_CASE("spanning: all_reduce of every dtype and operation against f64") {
  for (const std::vector<int>& layout : kLayouts)
    check_on_nodes(layout, [](const Group& group, Problems& problems) {
      if (group.size() <= 4) check_all_reduce(group, problems, kCounts, 100);
    });
}

TEST_CASE("spanning: the collectives that move data") {
  for (const std::vector<int>& layout : kLayouts)
    check_on_nodes(layout, [](const Group& group, Problems& problems) {
      check_moves(group, problems, kCounts, {DType::u8, DType::bf16, DType::f64});
    });
}

TEST_CASE("spanning: more data than one chunk has room for") {
  check_on_nodes({0, 0, 1, 1}, [](const Group& group, Problems& problems) {
    check_all_reduce(group, problems, {700'001}, 0);
    check_moves(group, problems, {500'001}, {DType::u8});
  });
}

TEST_CASE("spanning: messages in a node and between nodes") {
  for (const std::vector<int>& layout : kLayouts)
    check_on_nodes(layout, [](const Group& group, Problems& problems) {
      check_messages(group, problems, {0, 3, 70'001});
    });
}

TEST_CASE("spanning: strings, parts, shared memory") {
  for (const std::vector<int>& layout : kLayouts)
    check_on_nodes(layout, [](const Group& group, Problems& problems) {
      check_bytes(group, problems);
      check_splits(group, problems);
      check_shared_memory(group, problems, 1'000);
      check_shared_memory(group, problems, 700'001);
    });
}

TEST_CASE("spanning: 16-bit floats are added in f32 and rounded once") {
  check_on_nodes({0, 0, 1, 1, 1}, [](const Group& group, Problems& problems) {
    // 1 + 4 * 2^-9: each step alone would be rounded away in bf16.
    for (const int64_t count : {10, 10'000}) {
      const Tensor t = full({count}, group.rank() == 0 ? 1.0 : 1.0 / 512, {.dtype = DType::bf16});
      group.all_reduce(t);
      problems.expect(
          t.to_vector<double>() == std::vector<double>(static_cast<size_t>(count), 1.0078125),
          "sum of " + std::to_string(count));
    }
  });
}

TEST_CASE("spanning: nodes of 1, 2 and 4 ranks give what one host gives, to the bit") {
  const std::vector<std::vector<int>> layouts = {
      {0, 1, 2},          {0, 1, 2, 3, 4},          {0, 0, 1, 1},
      {0, 0, 1, 1, 2, 2}, {0, 0, 0, 0, 1, 1, 1, 1}, {0, 0, 0, 0, 1, 1, 1}};
  for (const std::vector<int>& layout : layouts)
    check_on_nodes(layout, [](const Group& group, Problems& problems) {
      check_order(group, problems, {13, 9'001});
    });
}

TEST_CASE("spanning: NaN on one rank is NaN on all, for sum, min, max and prod") {
  check_on_nodes({0, 0, 1}, [](const Group& group, Problems& problems) {
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max, ReduceOp::prod})
      for (int holder = 0; holder < 3; ++holder)
        for (const DType dtype : {DType::f16, DType::f32, DType::f64}) {
          const Tensor t =
              full({4'000}, group.rank() == holder ? std::nan("") : 1.0, {.dtype = dtype});
          group.all_reduce(t, op);
          problems.expect(std::isnan(t.to_vector<double>()[3'999]), "NaN");
        }
  });
}
