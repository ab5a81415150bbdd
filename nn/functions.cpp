#include <weft/nn/functions.hpp>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::nn {

Dropout::Dropout(const At& at, double p) : Layer(at), p_(p) {
  WEFT_CHECK(ArgumentError, p >= 0 && p <= 1, "Dropout: probability {} is not in [0, 1]", p);
}

}  // namespace weft::inline v0::nn
