// What every collective must give, on any group, held against f64.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <weft/tests/dist/ranks.hpp>

namespace weft::test {

/// Small whole numbers, different for each rank: every dtype holds them, their sums and their
/// products over 4 ranks exactly.
Tensor values_of(int rank, DType dtype, const Shape& shape);
Tensor make(DType dtype, const Shape& shape, const std::function<double(int64_t)>& value);
/// Element i of values_of, combined over `size` ranks.
double combined(DType dtype, dist::ReduceOp op, int size, int64_t i);
/// Where two tensors differ; nothing where they do not.
std::string first_difference(const Tensor& got, const Tensor& expected);

/// all_reduce of each count, with each dtype and operation; above `limit` elements only sums.
void check_all_reduce(const dist::Group& group, Problems& problems,
                      const std::vector<int64_t>& counts, int64_t limit);
/// Sums and products of random numbers, equal to the bit to those formed in pairs: the largest
/// power of two of ranks first, then the rest, and each alike.
void check_order(const dist::Group& group, Problems& problems, const std::vector<int64_t>& counts);
/// The collectives that move data, and reduce_scatter.
void check_moves(const dist::Group& group, Problems& problems, const std::vector<int64_t>& counts,
                 const std::vector<DType>& dtypes);
/// send and recv between any two, both ways.
void check_messages(const dist::Group& group, Problems& problems,
                    const std::vector<int64_t>& counts);

/// Strings of bytes, of any size.
void check_bytes(const dist::Group& group, Problems& problems);
/// Groups split off, overlapping, used side by side.
void check_splits(const dist::Group& group, Problems& problems);
/// Memory that the ranks share: the same sums as in private memory.
void check_shared_memory(const dist::Group& group, Problems& problems, int64_t count);

}  // namespace weft::test
