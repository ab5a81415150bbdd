// What an Accelerator does for one process or the other: order, parts, padding.
#include <algorithm>
#include <cstring>
#include <exception>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/random.hpp>
#include <weft/dist/accelerator.hpp>

namespace weft::inline v0 {

namespace {

constexpr size_t kTextSize = 512;  // bytes of an error's text that the other ranks are told

/// A flag and a text in one row of bytes, as the ranks exchange it.
Tensor row_of(bool failed, const std::string& text) {
  std::vector<uint8_t> bytes(1 + kTextSize, 0);
  bytes[0] = failed ? 1 : 0;
  std::memcpy(bytes.data() + 1, text.data(), std::min(text.size(), kTextSize - 1));
  return from_host(bytes.data(), {static_cast<int64_t>(bytes.size())}, DType::u8);
}

}  // namespace

void Accelerator::run_in_order(bool first, const char* op,
                               const std::function<void()>& body) const {
  std::exception_ptr failure;
  std::string text;
  if (first) {
    try {
      body();
    } catch (const std::exception& error) {
      failure = std::current_exception();  // thrown below, when the other ranks know
      text = error.what();
    } catch (...) {
      failure = std::current_exception();
      text = "an exception of an unknown type";
    }
  }
  Tensor rows;
  try {
    rows = group().all_gather(row_of(failure != nullptr, text));
  } catch (const CommError&) {
    if (failure == nullptr) throw;  // else what failed here came first
  }
  if (failure) std::rethrow_exception(failure);
  const std::vector<uint8_t> bytes = rows.to_vector<uint8_t>();
  for (int rank = 0; rank < num_processes(); ++rank) {
    const uint8_t* row = bytes.data() + static_cast<size_t>(rank) * (1 + kTextSize);
    WEFT_CHECK(Error, row[0] == 0, "{}: rank {}, which goes first, failed: {}", op, rank,
               reinterpret_cast<const char*>(row + 1));
  }
  if (!first) body();
}

Accelerator::Part Accelerator::part_of(int64_t size, bool apply_padding) const {
  const int64_t world = num_processes(), rank = process_index();
  const int64_t each = size / world, more = size % world;
  Part part{rank * each + std::min(rank, more), each + (rank < more ? 1 : 0), 0};
  if (apply_padding && size > 0) part.padding = each + (more > 0 ? 1 : 0) - part.count;
  return part;
}

Tensor Accelerator::split_between_processes(const Tensor& tensor, bool apply_padding) const {
  WEFT_CHECK(ArgumentError, tensor.dim() > 0,
             "split_between_processes: a 0-d tensor has nothing to split; unsqueeze(0) it first");
  const int64_t size = tensor.size(0);
  const Part part = part_of(size, apply_padding);
  const Tensor own = tensor.narrow(0, part.start, part.count);
  if (part.padding == 0) return own;
  Shape last = tensor.shape();
  last[0] = part.padding;
  return cat({own, tensor.narrow(0, size - 1, 1).expand(last)});
}

void Accelerator::synchronize_rng_states() const {
  const PhiloxState state = random_state();
  const Tensor words =
      tensor({static_cast<int64_t>(state.seed), static_cast<int64_t>(state.offset)});
  group().broadcast(words);
  const std::vector<int64_t> values = words.to_vector<int64_t>();
  set_random_state({static_cast<uint64_t>(values[0]), static_cast<uint64_t>(values[1])});
}

Tensor Accelerator::pad_across_processes(const Tensor& value, int64_t dim, double pad_index,
                                         bool pad_first) const {
  const int64_t rank = value.dim();
  WEFT_CHECK(ArgumentError, dim >= -rank && dim < rank,
             "pad_across_processes: dim {} of a tensor of {} dims", dim, rank);
  if (dim < 0) dim += rank;
  const NoGrad guard;
  const Tensor length = tensor({value.size(dim)});
  group().all_reduce(length, dist::ReduceOp::max);
  const int64_t missing = length.item<int64_t>() - value.size(dim);
  if (missing == 0) return value;
  Shape shape = value.shape();
  shape[static_cast<int>(dim)] = missing;
  const Tensor padding = full(shape, pad_index, {.dtype = value.dtype(), .device = value.device()});
  return pad_first ? cat({padding, value.detach()}, dim) : cat({value.detach(), padding}, dim);
}

}  // namespace weft::inline v0
