// One rank of the contenders weft and gloo of bench/comm: comm_rank weft|gloo ADDRESS RANK
// SIZE, with the variables of a rank set. Exits with 3 where it was built without gloo.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <weft/bench/comm_peer.hpp>
#include <weft/bench/contender.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/dist/comm/group.hpp>
#include <weft/dist/store/tcp_store.hpp>

namespace {

using namespace weft;

void run_weft(const std::string& address) {
  const dist::Group group = dist::init_process_group();
  std::map<std::pair<size_t, bool>, Tensor> tensors;
  bench::serve(address, group.rank(), [&](const bench::Order& order) {
    if (order.operation == "barrier")
      return bench::median_time(
          order.iterations, [] {}, [&] { group.barrier(); });
    const auto count = static_cast<int64_t>(order.bytes / sizeof(float));
    Tensor& data = tensors[{order.bytes, order.in_arena}];
    if (!data.defined())
      data = order.in_arena
                 ? tensor_over(group.allocate_shared(order.bytes), {count}, {1}, 0, DType::f32)
                 : zeros({count});
    auto* values = data.mutable_data<float>();
    return bench::median_time(
        order.iterations, [&] { std::fill(values, values + count, 1e-3f); },
        [&] { group.all_reduce(data); });
  });
}

void run_gloo(const std::string& address, int rank, int size) {
  const auto store = dist::connect_store_from_environment();
  bench::RawGloo gloo(*store, rank, size);
  std::map<size_t, std::vector<float>> buffers;
  bench::serve(address, rank, [&](const bench::Order& order) {
    if (order.operation == "barrier")
      return bench::median_time(
          order.iterations, [] {}, [&] { gloo.barrier(); });
    std::vector<float>& data = buffers[order.bytes];
    data.resize(order.bytes / sizeof(float));
    return bench::median_time(
        order.iterations, [&] { std::fill(data.begin(), data.end(), 1e-3f); },
        [&] { gloo.all_reduce(data.data(), data.size()); });
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    if (std::string(argv[1]) == "weft")
      run_weft(argv[2]);
    else if (bench::RawGloo::is_built())
      run_gloo(argv[2], std::atoi(argv[3]), std::atoi(argv[4]));
    else
      return 3;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "comm_rank: %s\n", error.what());
    return 1;
  }
  return 0;
}
