// The program that `launcher test` runs in its ranks; not for users.
//   test-ranks --drill
//   test-ranks --check NAME,NAME… [--file NAME] [--quick] [--break CHECK=HOW]
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/launcher/programs/test/ranks.hpp>

namespace {

using namespace weft;
using namespace weft::self_test;

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (size_t comma; (comma = text.find(',', start)) != std::string::npos; start = comma + 1)
    parts.push_back(text.substr(start, comma - start));
  parts.push_back(text.substr(start));
  return parts;
}

int run(const std::vector<std::string>& words) {
  RankPlan plan;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto value = [&] {
      WEFT_CHECK(ArgumentError, i + 1 < words.size(), "test-ranks: {} takes a value", word);
      return words[++i];
    };
    if (word == "--drill")
      return run_drill();
    else if (word == "--check")
      plan.checks = split(value());
    else if (word == "--file")
      plan.file = value();
    else if (word == "--quick")
      plan.quick = true;
    else if (word == "--break")
      plan.fault = parse_fault(value());
    else
      throw ArgumentError("test-ranks: unknown word " + word +
                          "; launcher test starts this program");
  }
  return run_rank(plan);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
