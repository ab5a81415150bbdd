// SLURM's lists of hosts and counts.
#include <doctest/doctest.h>

#include <random>
#include <string>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/nodelist.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist::detail;
using namespace weft::test;

namespace {

using Hosts = std::vector<std::string>;

Hosts expand(const std::string& text) { return expand_nodelist(text, "SLURM_NODELIST"); }

}  // namespace

TEST_CASE("nodelist: names, ranges, widths, several brackets") {
  CHECK(expand("node1") == Hosts{"node1"});
  CHECK(expand("n[01-03,7],m2") == Hosts{"n01", "n02", "n03", "n7", "m2"});
  CHECK(expand("n[8-11]") == Hosts{"n8", "n9", "n10", "n11"});
  CHECK(expand("n[098-101]") == Hosts{"n098", "n099", "n100", "n101"});
  CHECK(expand("r[0-1]n[1-2]-ib") == Hosts{"r0n1-ib", "r0n2-ib", "r1n1-ib", "r1n2-ib"});
  CHECK(expand("[1-2]") == Hosts{"1", "2"});
  CHECK(expand("a.b-c_d") == Hosts{"a.b-c_d"});
  CHECK(expand("n[0-65535]").size() == kMaxNodes);
  CHECK(expand("a[0-255]b[0-255]").back() == "a255b255");
}

TEST_CASE("nodelist: what is malformed is named with its column") {
  const auto fails = [](const std::string& name, const std::string& text) {
    check_error<ArgumentError>(name, [&] { expand(text); });
  };
  fails("nodelist_empty", "");
  fails("nodelist_no_name", "a,,b");
  fails("nodelist_open", "n[1-3");
  fails("nodelist_no_number", "n[1-]");
  fails("nodelist_reversed", "n[3-1]");
  fails("nodelist_nested", "n[1[2-3]]");
  fails("nodelist_character", "n1 n2");
  fails("nodelist_option", "-n1");
  fails("nodelist_many", "n[0-65536]");
  fails("nodelist_product", "a[0-999]b[0-999]c[0-999]");
  fails("nodelist_sum", "a[0-65535],b");
  fails("nodelist_digits", "n[0-1234567890]");
  fails("nodelist_long_name", std::string(300, 'n'));
  fails("nodelist_long", std::string(kMaxNodelist + 1, 'n'));
}

TEST_CASE("nodelist: counts with repetitions") {
  const auto counts = [](const std::string& text) { return expand_counts(text, "TASKS"); };
  CHECK(counts("4") == std::vector<int>{4});
  CHECK(counts("2(x3),1") == std::vector<int>{2, 2, 2, 1});
  CHECK(counts("1,2,3(x1)") == std::vector<int>{1, 2, 3});
  const auto fails = [&](const std::string& name, const std::string& text) {
    check_error<ArgumentError>(name, [&] { counts(text); });
  };
  fails("counts_zero", "0");
  fails("counts_no_x", "2(3)");
  fails("counts_open", "2(x3");
  fails("counts_none", "2(x0)");
  fails("counts_many", "1(x65536),1");
  fails("counts_tail", "2;1");
  fails("counts_word", "two");
}

TEST_CASE(
    "nodelist: mutations of good lists give hosts or a named error, never more than allowed") {
  std::mt19937 random(20260801);
  const std::string alphabet = "n019[]-,x().";
  for (int round = 0; round < 20000; ++round) {
    std::string text = "n[01-03,7],m2,r[0-1]n[0-3]";
    for (uint32_t edits = random() % 4; edits > 0; --edits) {
      const size_t at = random() % text.size();
      const char c = alphabet[random() % alphabet.size()];
      if (random() % 2 == 0)
        text[at] = c;
      else
        text.insert(at, 1, c);
    }
    CAPTURE(text);
    try {
      const Hosts hosts = expand(text);
      REQUIRE(!hosts.empty());
      REQUIRE(hosts.size() <= kMaxNodes);
      for (const std::string& host : hosts) REQUIRE(!host.empty());
    } catch (const ArgumentError& error) {
      REQUIRE(std::string(error.what()).starts_with("SLURM_NODELIST: column "));
    }
  }
}
