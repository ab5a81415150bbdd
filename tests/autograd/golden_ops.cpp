// Every operator against PyTorch's values and gradients (tests/goldens/README.md).
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <weft/tests/support/golden_ops.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using namespace weft::test;

namespace {

void check(const GoldenReport& report) {
  for (const std::string& failure : report.failures) MESSAGE(failure);
  CHECK(report.failures.empty());
}

std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("golden ops") {
  const GoldenReport report = run_golden_ops(golden_folder() + "/ops.safetensors");
  std::printf("%s\n", report.line().c_str());
  for (const std::string& failure : report.failures) std::printf("  %s\n", failure.c_str());
  CHECK(report.failures.empty());
  CHECK(report.cases > 0);
}

TEST_CASE("golden ops fail where one value is flipped") {
  const std::string original = golden_folder() + "/ops.safetensors";
  const std::string bytes = read_bytes(original);
  const io::SafetensorsFile file(original);
  const TempDir folder;
  const std::string copy = folder / "ops.safetensors";
  const std::pair<const char*, const char*> flips[] = {
      {"mul.1", "mul.1/output0"}, {"mul.1", "mul.1/grad1"}, {"add.4", "add.4/output0"}};
  for (const auto& [id, key] : flips) {
    const auto& shown = key;  // clang 14 captures no structured binding
    CAPTURE(shown);
    const io::SafetensorsEntry& entry = file.entry(key);
    std::string changed = bytes;
    // The sign of a float's first value, or the top bit of a whole number.
    char& top = changed[entry.begin + (entry.dtype == "F32" ? 3 : 7)];
    top = static_cast<char>(top ^ '\x80');
    std::ofstream(copy, std::ios::binary | std::ios::trunc) << changed;
    const GoldenReport report = run_golden_ops(copy);
    CHECK(report.failed_cases.contains(id));
    CHECK(report.failures.size() == run_golden_ops(original).failures.size() + 1);
  }
}

TEST_CASE("rows with a looser bound say why") {
  for (const OpRow& row : op_rows()) {
    CAPTURE(row.name);
    CHECK((row.bound <= 1e-5 || !row.reason.empty()));
  }
}

TEST_CASE("golden ops from inputs whose last dims are swapped") {
  check(run_golden_ops(golden_folder() + "/ops.safetensors", {.form = Form::transposed}));
}

TEST_CASE("golden ops from every second element of a buffer") {
  check(run_golden_ops(golden_folder() + "/ops.safetensors", {.form = Form::stepped}));
}

TEST_CASE("golden ops on the sim device") {
  check(run_golden_ops(golden_folder() + "/ops.safetensors", {.device = Device::sim()}));
}
