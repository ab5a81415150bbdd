// Attributes of the filling and pointwise ops. Not for users.
#pragma once

#include <cstdint>

#include <weft/core/op.hpp>
#include <weft/core/random.hpp>
#include <weft/core/scalar.hpp>

namespace weft::inline v0 {

/// A number in both forms: whole ones keep all of their 64 bits.
struct NumberAttr {
  double real = 0;
  int64_t whole = 0;
  bool is_real = false;
  NumberAttr() = default;
  explicit NumberAttr(Scalar value)
      : real(value.to_double()),
        whole(value.is_real() ? 0 : value.to_int()),
        is_real(value.is_real()) {}
};

/// full: every element; arange: start and step.
struct FullAttrs {
  NumberAttr value;
};
struct ArangeAttrs {
  NumberAttr start, step;
};

/// random_uniform and random_normal use the state alone; random_integers gives [low, high).
struct RandomAttrs {
  PhiloxState state;
  int64_t low = 0, high = 0;
};

/// dropout; elements draw from the state by their place.
struct DropoutAttrs {
  double p = 0;
  PhiloxState state;
};

struct SoftplusAttrs {
  double beta = 1, threshold = 20;
};

struct EluAttrs {
  double alpha = 1, scale = 1;
};

/// clamp and hardtanh.
struct ClampAttrs {
  NumberAttr min, max;
  bool has_min = false, has_max = false;
};

}  // namespace weft::inline v0
