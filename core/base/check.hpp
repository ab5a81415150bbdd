// Throwing with a formatted text. For .cpp files only: public headers must not pull in fmt.
#pragma once

#include <fmt/core.h>

#include <utility>

#include <weft/core/base/error.hpp>

namespace weft::inline v0::detail {

/// Throws `E` with the formatted text. Out of line at the call, so that the checked path stays
/// small.
template <class E, class... Args>
[[noreturn, gnu::cold, gnu::noinline]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw E(fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace weft::inline v0::detail

/// Throws `ErrorType` with the fmt-formatted text unless `condition` holds.
#define WEFT_CHECK(ErrorType, condition, ...)       \
  do {                                              \
    if (!(condition)) [[unlikely]]                  \
      ::weft::detail::fail<ErrorType>(__VA_ARGS__); \
  } while (false)
