// Error texts, all of them in one file that reads well from top to bottom.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <typeinfo>

namespace weft::test {

/// Takes out of a text what differs from run to run (process ids, paths); see `replaced`.
using Normalise = std::function<std::string(std::string)>;

/// `text` with every `from` replaced by `to`.
std::string replaced(std::string text, const std::string& from, const std::string& to);

/// `text` with every run of digits replaced by `N`.
std::string without_digits(std::string text);

/// Holds `text` against the line `name: ...` of tests/goldens/errors.txt. Returns an empty string
/// where they agree, else what is wrong. With WEFT_UPDATE_ERRORS=1 it writes the line instead and
/// keeps all others; binaries may do so at the same time.
std::string compare_error_text(const std::string& name, const std::string& text);

/// Runs `action`, which must throw exactly an `E`, and holds its text against
/// tests/goldens/errors.txt under `name` (unique over all tests, words joined by underscores).
template <class E, class Action>
void check_error(const std::string& name, Action&& action, const Normalise& normalise = nullptr) {
  CAPTURE(name);
  std::string text;
  bool thrown = false;
  try {
    action();
  } catch (const E& error) {
    thrown = true;
    CHECK_MESSAGE(typeid(error) == typeid(E), "thrown: a type derived from the expected one");
    text = error.what();
  } catch (const std::exception& error) {
    FAIL_CHECK("thrown: another type, with the text: " << error.what());
    return;
  }
  REQUIRE_MESSAGE(thrown, "nothing was thrown");
  const std::string problem = compare_error_text(name, normalise ? normalise(text) : text);
  CHECK_MESSAGE(problem.empty(), problem);
}

}  // namespace weft::test
