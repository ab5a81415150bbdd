// What a safetensors file may look like: the verdicts of the format's own reader (0.8.0) on probe
// files, apart from repeated keys and leading space, which its text forbids and strict mode
// refuses, and sizes above 2^48.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <weft/tests/core/safetensors_support.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using namespace weft::test;

namespace {

struct Probe {
  const char* what;
  std::string bytes;
  const char* code;                ///< expected; empty: accepted
  const char* lenient = "strict";  ///< expected in lenient mode, where it differs
};

std::string entry(const char* key, const char* dtype, const char* shape, const char* offsets) {
  return std::string("\"") + key + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape +
         R"(,"data_offsets":)" + offsets + "}";
}

std::string one(const char* dtype, const char* shape, const char* offsets) {
  return "{" + entry("a", dtype, shape, offsets) + "}";
}

const std::string kEight(8, '\1');

std::vector<Probe> accepted() {
  const std::string good = one("F32", "[2]", "[0,8]");
  return {
      {"one tensor", safetensors_bytes(good, kEight), ""},
      {"no tensors", safetensors_bytes("{}"), ""},
      {"zero-size", safetensors_bytes(one("F32", "[0,3]", "[0,0]")), ""},
      {"two empty ones at one offset",
       safetensors_bytes("{" + entry("a", "F32", "[0]", "[0,0]") + "," +
                         entry("b", "I64", "[2,0]", "[0,0]") + "}"),
       ""},
      {"scalar", safetensors_bytes(one("F64", "[]", "[0,8]"), kEight), ""},
      {"entries in any order",
       safetensors_bytes(
           "{" + entry("b", "F32", "[1]", "[4,8]") + "," + entry("a", "F32", "[1]", "[0,4]") + "}",
           kEight),
       ""},
      {"header not a multiple of 8", safetensors_bytes(good + " ", kEight), ""},
      {"trailing spaces", safetensors_bytes(good + "     ", kEight), ""},
      {"trailing newline", safetensors_bytes(good + "\n", kEight), ""},
      {"leading space", safetensors_bytes(" " + good, kEight), "E_HEADER_JSON", ""},
      {"metadata", safetensors_bytes(R"({"__metadata__":{"format":"pt"}})"), ""},
      {"metadata null", safetensors_bytes(R"({"__metadata__":null})"), ""},
      {"extra field",
       safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":[{}]}})",
                         kEight),
       ""},
      {"a key twice",
       safetensors_bytes(
           "{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("a", "F32", "[2]", "[0,8]") + "}",
           kEight),
       "E_DUP_KEY", ""},
      {"a dtype that tensors do not have",
       safetensors_bytes(one("F8_E4M3", "[8]", "[0,8]"), kEight), ""},
      {"even F4", safetensors_bytes(one("F4", "[16]", "[0,8]"), kEight), ""},
  };
}

std::vector<Probe> rejected() {
  const std::string good = one("F32", "[2]", "[0,8]");
  const std::string deep = "{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  return {
      {"3 bytes", "abc", "E_HEADER_SIZE"},
      {"no bytes", "", "E_HEADER_SIZE"},
      {"header above 100 MB", safetensors_bytes(good, kEight, 100'000'001), "E_HEADER_SIZE"},
      {"header longer than the file", safetensors_bytes(good, kEight, good.size() + 9),
       "E_HEADER_SIZE"},
      {"header of 2^64 - 1 bytes", safetensors_bytes(good, kEight, ~uint64_t{0}), "E_HEADER_SIZE"},
      {"empty header", safetensors_bytes(""), "E_HEADER_JSON"},
      {"bad UTF-8", safetensors_bytes("{\"\xff\":1}"), "E_HEADER_UTF8"},
      {"a surrogate half", safetensors_bytes("{\"\xed\xa0\x80\":1}"), "E_HEADER_UTF8"},
      {"a list at the top", safetensors_bytes("[]"), "E_HEADER_JSON"},
      {"garbage behind the JSON", safetensors_bytes(good + "x", kEight), "E_HEADER_JSON"},
      {"a zero byte behind the JSON", safetensors_bytes(good + std::string(1, '\0'), kEight),
       "E_HEADER_JSON"},
      {"a byte order mark", safetensors_bytes("\xef\xbb\xbf" + good, kEight), "E_HEADER_JSON"},
      {"broken JSON", safetensors_bytes("{\"a\":}"), "E_HEADER_JSON"},
      {"very deep JSON", safetensors_bytes(deep), "E_HEADER_JSON"},
      {"metadata of numbers", safetensors_bytes(R"({"__metadata__":{"n":1}})"), "E_HEADER_JSON"},
      {"missing field", safetensors_bytes(R"({"a":{"dtype":"F32","shape":[2]}})", kEight),
       "E_HEADER_JSON"},
      {"an entry that is no object", safetensors_bytes(R"({"a":7})"), "E_HEADER_JSON"},
      {"a field twice",
       safetensors_bytes(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                         kEight),
       "E_DUP_KEY"},
      {"unknown dtype", safetensors_bytes(one("F31", "[2]", "[0,8]"), kEight), "E_DTYPE_UNKNOWN"},
      {"lower-case dtype", safetensors_bytes(one("f32", "[2]", "[0,8]"), kEight),
       "E_DTYPE_UNKNOWN"},
      {"negative size", safetensors_bytes(one("F32", "[-2]", "[0,8]"), kEight), "E_SHAPE"},
      {"real size", safetensors_bytes(one("F32", "[2.0]", "[0,8]"), kEight), "E_SHAPE"},
      {"size above 2^48", safetensors_bytes(one("F32", "[0,9223372036854775808,4]", "[0,0]")),
       "E_SHAPE"},
      {"size above 2^64", safetensors_bytes(one("F32", "[0,18446744073709551617]", "[0,0]")),
       "E_SHAPE"},
      {"3 offsets", safetensors_bytes(one("F32", "[2]", "[0,8,8]"), kEight), "E_OFFSET"},
      {"negative offset", safetensors_bytes(one("F32", "[2]", "[-8,0]"), kEight), "E_OFFSET"},
      {"real offset", safetensors_bytes(one("F32", "[2]", "[0,8e0]"), kEight), "E_OFFSET"},
      {"first offset not 0", safetensors_bytes(one("F32", "[1]", "[4,8]"), kEight), "E_OFFSET"},
      {"reversed", safetensors_bytes(one("F32", "[2]", "[8,0]"), kEight), "E_OFFSET"},
      {"hole",
       safetensors_bytes(
           "{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("b", "U8", "[4]", "[4,8]") + "}",
           kEight),
       "E_OFFSET"},
      {"overlap",
       safetensors_bytes(
           "{" + entry("a", "U8", "[6]", "[0,6]") + "," + entry("b", "U8", "[4]", "[4,8]") + "}",
           kEight),
       "E_OFFSET"},
      {"more elements than 2^64",
       safetensors_bytes(one("U8", "[281474976710656,281474976710656]", "[0,8]"), kEight),
       "E_OVERFLOW"},
      {"more bits than 2^64",
       safetensors_bytes(one("F64", "[281474976710656,65535]", "[0,8]"), kEight), "E_OVERFLOW"},
      {"shape and offsets disagree", safetensors_bytes(one("F32", "[3]", "[0,8]"), kEight),
       "E_SIZE"},
      {"odd F4", safetensors_bytes(one("F4", "[15]", "[0,8]"), kEight), "E_SIZE"},
      {"truncated data", safetensors_bytes(good, kEight.substr(1)), "E_TRUNCATED"},
      {"trailing byte", safetensors_bytes(good, kEight + "x"), "E_TRAILING"},
      {"data without tensors", safetensors_bytes("{}", "x"), "E_TRAILING"},
  };
}

void run(const std::vector<Probe>& probes) {
  const TempDir folder;
  const std::string path = folder / "probe.safetensors";
  for (const Probe& probe : probes) {
    CAPTURE(probe.what);
    write_bytes(path, probe.bytes);
    CHECK(verdict(path) == probe.code);
    const bool differs = std::string(probe.lenient) != "strict";
    CHECK(verdict(path, true) == (differs ? probe.lenient : probe.code));
  }
}

/// The texts, each with the file's name without its folder.
void text(const std::string& name, const std::string& bytes) {
  const TempDir folder;
  const std::string path = folder / "model.safetensors";
  write_bytes(path, bytes);
  check_error<FormatError>(
      name, [&] { const io::SafetensorsFile file(path); },
      [&](std::string what) { return replaced(what, folder.path().string() + "/", ""); });
}

}  // namespace

TEST_CASE("safetensors: probes that are accepted") { run(accepted()); }
TEST_CASE("safetensors: probes that are rejected") { run(rejected()); }

TEST_CASE("safetensors: the texts of its errors") {
  const std::string good = one("F32", "[2]", "[0,8]");
  text("safetensors_short", "abc");
  text("safetensors_header_huge", safetensors_bytes(good, kEight, 5'000'000'000));
  text("safetensors_header_cut", safetensors_bytes(good, kEight, good.size() + 20));
  text("safetensors_utf8", safetensors_bytes("{\"\xff\":1}"));
  text("safetensors_start", safetensors_bytes("[]"));
  text("safetensors_json", safetensors_bytes("{\"a\":}"));
  text("safetensors_json_zero", safetensors_bytes(good + std::string(1, '\0')));
  text("safetensors_json_deep", safetensors_bytes("{\"a\":" + std::string(99, '[')));
  text("safetensors_twice", safetensors_bytes("{\"w\":{},\"w\":{}}"));
  text("safetensors_metadata", safetensors_bytes(R"({"__metadata__":[1]})"));
  text("safetensors_metadata_value", safetensors_bytes(R"({"__metadata__":{"step":1}})"));
  text("safetensors_entry", safetensors_bytes(R"({"w":[1,{"x":null}]})"));
  text("safetensors_field", safetensors_bytes(R"({"w":{"dtype":"F32","shape":[2]}})"));
  text("safetensors_dtype", safetensors_bytes(one("f32", "[2]", "[0,8]")));
  text("safetensors_shape", safetensors_bytes(one("F32", "[2,-1]", "[0,8]")));
  text("safetensors_shape_kind", safetensors_bytes(one("F32", "2", "[0,8]")));
  text("safetensors_offsets", safetensors_bytes(one("F32", "[2]", "[0,8,9]")));
  text("safetensors_overlap", safetensors_bytes("{" + entry("a", "U8", "[6]", "[0,6]") + "," +
                                                entry("b", "U8", "[4]", "[4,8]") + "}"));
  text("safetensors_overflow", safetensors_bytes(one("F64", "[281474976710656,65535]", "[0,8]")));
  text("safetensors_odd_bits", safetensors_bytes(one("F4", "[15]", "[0,8]")));
  text("safetensors_size", safetensors_bytes(one("F32", "[3]", "[0,8]")));
  text("safetensors_truncated", safetensors_bytes(good, "1234"));
  text("safetensors_trailing", safetensors_bytes(good, kEight + "x"));
}

TEST_CASE("safetensors: a header of many keys takes linear time") {
  // Quadratic work on this many keys would take minutes.
  std::string header = "{";
  constexpr int kKeys = 200000;
  for (int i = 0; i < kKeys; ++i)
    header += (i > 0 ? "," : "") + entry(std::to_string(i).c_str(), "U8", "[0]", "[0,0]");
  const TempDir folder;
  const std::string path = folder / "many.safetensors";
  write_bytes(path, safetensors_bytes(header + "}"));
  const io::SafetensorsFile file(path);
  CHECK(file.entries().size() == kKeys);
  CHECK(file.contains("199999"));
}
