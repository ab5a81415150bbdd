// Sizes and strides: small inline lists of int64, up to eight of them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include <weft/core/base/api.hpp>

namespace weft::inline v0 {

/// Highest rank of a tensor.
inline constexpr int kMaxRank = 8;

/// A list of up to kMaxRank whole numbers; trivially copyable, so that it fits into op attributes.
/// Constructing a longer one throws ArgumentError.
class WEFT_API Dims {
 public:
  constexpr Dims() = default;
  Dims(std::initializer_list<int64_t> values) : Dims(std::span(values.begin(), values.size())) {}
  Dims(const std::vector<int64_t>& values) : Dims(std::span<const int64_t>(values)) {}
  explicit Dims(std::span<const int64_t> values) {
    check_rank(values.size());
    rank_ = static_cast<uint8_t>(values.size());
    for (size_t i = 0; i < values.size(); ++i) values_[i] = values[i];
  }

  int rank() const { return rank_; }
  size_t size() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  int64_t operator[](int i) const { return values_[i]; }
  int64_t& operator[](int i) { return values_[i]; }
  const int64_t* begin() const { return values_; }
  const int64_t* end() const { return values_ + rank_; }
  int64_t* begin() { return values_; }
  int64_t* end() { return values_ + rank_; }
  int64_t back() const { return values_[rank_ - 1]; }

  void push_back(int64_t value) {
    check_rank(rank_ + size_t{1});
    values_[rank_++] = value;
  }
  void insert(int position, int64_t value) {
    check_rank(rank_ + size_t{1});
    for (int i = rank_; i > position; --i) values_[i] = values_[i - 1];
    values_[position] = value;
    ++rank_;
  }
  void erase(int position) {
    for (int i = position; i + 1 < rank_; ++i) values_[i] = values_[i + 1];
    --rank_;
  }

  /// The product of all values; 1 for an empty list.
  int64_t numel() const {
    int64_t product = 1;
    for (int i = 0; i < rank_; ++i) product *= values_[i];
    return product;
  }

  bool operator==(const Dims& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (values_[i] != other.values_[i]) return false;
    return true;
  }

 private:
  static void check_rank(size_t rank) {
    if (rank > kMaxRank) [[unlikely]]
      fail_rank(rank);
  }
  [[noreturn]] static void fail_rank(size_t rank);

  int64_t values_[kMaxRank] = {};
  uint8_t rank_ = 0;
};

using Shape = Dims;
using Strides = Dims;

/// Dimensions as an argument: one number or a list; negative ones count from the back.
class WEFT_API DimList : public Dims {
 public:
  DimList() = default;
  DimList(int64_t dim) : Dims({dim}) {}
  DimList(std::initializer_list<int64_t> dims) : Dims(dims) {}
  DimList(const Dims& dims) : Dims(dims) {}
};

/// "[2, 3]".
WEFT_API std::string to_string(const Dims& dims);

/// Strides of a packed tensor in C order. Sizes of 0 and 1 count as 1.
WEFT_API Strides contiguous_strides(const Shape& shape);

/// `dim` in [0, rank); negative ones count from the back, and rank 0 accepts 0 and -1 as PyTorch
/// does. Throws ArgumentError with `op` and the range.
WEFT_API int normalize_dim(const char* op, int64_t dim, int rank);

/// The shape that both broadcast to. Throws ArgumentError with `op` and both shapes.
WEFT_API Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b);

}  // namespace weft::inline v0
