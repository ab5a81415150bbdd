#include <weft/core/shape.hpp>

#include <weft/core/base/check.hpp>

namespace weft::inline v0 {

void Dims::fail_rank(size_t rank) {
  detail::fail<ArgumentError>("shape: rank {} is above the highest one, {}", rank, kMaxRank);
}

std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (int i = 0; i < dims.rank(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims[i]);
  }
  return text + "]";
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = shape;
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= shape[i] > 1 ? shape[i] : 1;
  }
  return strides;
}

int normalize_dim(const char* op, int64_t dim, int rank) {
  const int64_t bound = rank == 0 ? 1 : rank;
  WEFT_CHECK(ArgumentError, dim >= -bound && dim < bound,
             "{}: dim {} is out of range; a tensor of rank {} has dims {} to {}", op, dim, rank,
             -bound, bound - 1);
  return static_cast<int>(dim < 0 ? dim + bound : dim);
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int shift = longer.rank() - shorter.rank();
  for (int i = 0; i < shorter.rank(); ++i) {
    const int64_t x = longer[i + shift], y = shorter[i];
    WEFT_CHECK(ArgumentError, x == y || x == 1 || y == 1,
               "{}: shapes do not broadcast: {} and {} differ at dim {} (sizes {} and {})", op,
               to_string(a), to_string(b), i + shift, &longer == &a ? x : y, &longer == &a ? y : x);
    result[i + shift] = x == 1 ? y : x;
  }
  return result;
}

}  // namespace weft::inline v0
