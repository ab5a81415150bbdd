// Errors and environment variables.
#include <doctest/doctest.h>

#include <cstdlib>
#include <set>
#include <string>

#include <weft/core/base/env.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/build_info.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

// Sets a variable for the time of a test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

constexpr const char* kName = "WEFT_TEST_VARIABLE";

}  // namespace

TEST_CASE("env::get gives the value, and nothing where it is unset or empty") {
  CHECK_FALSE(env::get(kName).has_value());
  {
    const Variable empty(kName, "");
    CHECK_FALSE(env::get(kName).has_value());
  }
  const Variable word(kName, "word");
  CHECK(env::get(kName) == std::optional<std::string>("word"));
}

TEST_CASE("env::get_int reads whole numbers in their range") {
  CHECK_FALSE(env::get_int(kName, 0, 9).has_value());
  for (const int64_t value : {-3, 0, 9}) {
    const Variable number(kName, std::to_string(value).c_str());
    CHECK(env::get_int(kName, -3, 9) == std::optional<int64_t>(value));
  }
  for (const char* text : {"10", "-4", "3 ", "3x", "x", "0x3", "99999999999999999999"}) {
    CAPTURE(text);
    const Variable number(kName, text);
    CHECK_THROWS_AS(env::get_int(kName, -3, 9), ArgumentError);
  }
  const Variable number(kName, "four");
  check_error<ArgumentError>("env_not_a_number", [] { env::get_int(kName, 1, 64); });
}

TEST_CASE("env::get_flag reads the usual spellings") {
  CHECK_FALSE(env::get_flag(kName).has_value());
  for (const char* text : {"1", "true", "yes", "on"}) {
    const Variable flag(kName, text);
    CHECK(env::get_flag(kName) == std::optional<bool>(true));
  }
  for (const char* text : {"0", "false", "no", "off"}) {
    const Variable flag(kName, text);
    CHECK(env::get_flag(kName) == std::optional<bool>(false));
  }
  const Variable flag(kName, "maybe");
  check_error<ArgumentError>("env_not_a_flag", [] { env::get_flag(kName); });
}

TEST_CASE("every variable is listed once, with what it means") {
  std::set<std::string> names;
  for (const env::Variable& variable : env::known_variables()) {
    CHECK_MESSAGE(names.insert(variable.name).second, variable.name);
    CHECK_MESSAGE(std::string(variable.meaning).size() > 10, variable.name);
  }
  CHECK(names.count("WEFT_NUM_THREADS") == 1);
}

TEST_CASE("errors keep their text, code and rank, and can be caught as weft::Error") {
  CHECK(std::string(ArgumentError("matmul: sizes").what()) == "matmul: sizes");
  CHECK(FormatError("E_TRUNCATED", "x.safetensors: short").code() == "E_TRUNCATED");
  CHECK(PeerLost(3, "all_reduce: rank 3 is gone").rank() == 3);
  CHECK_THROWS_AS(throw TimeoutError("barrier: timed out"), CommError);
  CHECK_THROWS_AS(throw DesyncError("barrier against all_reduce"), CommError);
  CHECK_THROWS_AS(throw PeerLost(1, "gone"), CommError);
  CHECK_THROWS_AS(throw OutOfMemory("add: 8 bytes"), Error);
  CHECK_THROWS_AS(throw IoError("open"), Error);
  CHECK_THROWS_AS(throw DeviceError("cuda"), Error);
  CHECK_THROWS_AS(throw CommError("store"), Error);
}

TEST_CASE("the library tells how it was built") {
  CHECK(std::string(weft::version()) == "0.1.0");
  const std::string info = weft::build_info();
  for (const char* key : {"version: 0.1.0\n", "compiler: ", "build type: ", "options: onednn ",
                          "CPU levels: ", "CPU level: "})
    CHECK_MESSAGE(info.find(key) != std::string::npos, info);
  CHECK(info.ends_with("\n"));
}
