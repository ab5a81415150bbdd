// One number of any of the C++ arithmetic types, as an argument of ops.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include <weft/core/dtype.hpp>

namespace weft::inline v0 {

/// A number that keeps whether it is a truth value, a whole number or a real one: it promotes a
/// tensor only across these categories, never within one (PyTorch's rule for Python numbers).
class Scalar {
 public:
  Scalar() = default;
  template <class T>
  requires std::is_arithmetic_v<T> Scalar(T value) {
    if constexpr (std::same_as<T, bool>) {
      kind_ = Kind::boolean;
      integer_ = value;
    } else if constexpr (std::integral<T>) {
      kind_ = Kind::integer;
      integer_ = static_cast<int64_t>(value);
    } else {
      kind_ = Kind::real;
      real_ = static_cast<double>(value);
    }
  }

  bool is_boolean() const { return kind_ == Kind::boolean; }
  bool is_integer() const { return kind_ == Kind::integer; }
  bool is_real() const { return kind_ == Kind::real; }
  double to_double() const { return is_real() ? real_ : static_cast<double>(integer_); }
  int64_t to_int() const { return is_real() ? static_cast<int64_t>(real_) : integer_; }
  /// The dtype of a tensor made of it alone: bool, i64 or f32.
  DType natural_dtype() const {
    return is_boolean() ? DType::boolean : is_integer() ? DType::i64 : DType::f32;
  }

 private:
  enum class Kind : uint8_t { boolean, integer, real };
  Kind kind_ = Kind::integer;
  union {
    int64_t integer_ = 0;
    double real_;
  };
};

}  // namespace weft::inline v0
