// Leaving a test case that cannot run here, with the reason; it then counts as skipped.
#pragma once

#include <string>

namespace weft::test {

/// Marks the running case as skipped. Use WEFT_SKIP, which also leaves the case.
void note_skip(const std::string& reason);

}  // namespace weft::test

/// Ends the test case: `if (!have_clang_format()) WEFT_SKIP("clang-format is not installed");`
/// Only in the body of a TEST_CASE, before its first subcase.
#define WEFT_SKIP(reason)            \
  do {                               \
    ::weft::test::note_skip(reason); \
    return;                          \
  } while (false)
