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
    check_all_reduce(group, problems, {1'500'001}, 0);
    check_moves(group, problems, {700'001}, {DType::f32});
  });
}

TEST_CASE("spanning: messages in a node and between nodes") {
  for (const std::vector<int>& layout : kLayouts)
    check_on_nodes(layout, [](const Group& group, Problems& problems) {
      check_messages(group, problems, {0, 3, 70'001});
    });
}
