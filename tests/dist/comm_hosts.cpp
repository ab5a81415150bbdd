// Groups of processes that take each other for other hosts: gloo over loopback.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <functional>
#include <string>

#include <weft/core/base/error.hpp>
#include <weft/tests/dist/ranks.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::test;

TEST_CASE("hosts: every collective") {
  for (const std::vector<int>& layout :
       std::vector<std::vector<int>>{{0, 0, 1, 1}, {0, 1, 1}, {0, 1, 2}}) {
    CAPTURE(layout.size());
    RankProcesses ranks("everything", layout);
    for (size_t r = 0; r < layout.size(); ++r) {
      const int code = ranks.wait(static_cast<int>(r));
      CHECK_MESSAGE(code == 0, ranks.output(static_cast<int>(r)));
    }
  }
}
