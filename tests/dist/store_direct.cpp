// Jobs without a launcher: where their ranks meet.
#include <doctest/doctest.h>

#include <set>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/direct.hpp>
#include <weft/dist/store/host.hpp>
#include <weft/dist/store/place.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>

using namespace weft;
using namespace weft::dist::detail;
using namespace weft::test;
using weft::dist::Store;
using weft::dist::StoreServer;

namespace {

weft::dist::Place place_of(int rank, const std::string& job) {
  weft::dist::Place place;
  place.rank = rank;
  place.size = 2;
  place.job = job;
  return place;
}

/// A name that no other test or process uses.
std::string fresh_job(const std::string& name) { return name + "-" + to_hex(random_bytes(8)); }

/// Both ranks meet and hand each other a value.
template <class Meet>
void check_meeting(const Meet& meet_as) {
  std::shared_ptr<Store> second;
  std::thread other([&] { second = meet_as(1); });
  const std::shared_ptr<Store> first = meet_as(0);
  other.join();
  REQUIRE(second != nullptr);
  first->set("k", "v");
  CHECK(second->get("k", 10) == "v");
}

}  // namespace

TEST_CASE("direct: a job's ports follow from its name and its secret") {
  const auto ports = ports_of_job(kToken, "slurm-1.0");
  CHECK(ports == ports_of_job(kToken, "slurm-1.0"));
  CHECK(ports != ports_of_job(kToken, "slurm-1.1"));
  CHECK(ports != ports_of_job(std::string(kToken) + "x", "slurm-1.0"));
  CHECK(std::set<int>(ports.begin(), ports.end()).size() == ports.size());
  for (const int port : ports) CHECK((port >= 20000 && port < 32000));
  CHECK(token_of_job(kToken, "a") != token_of_job(kToken, "b"));
  CHECK(token_of_job(kToken, "a").size() == 64);
}

TEST_CASE("direct: ranks meet at a port that follows from the job's name") {
  const std::string job = fresh_job("plain");
  check_meeting([&](int rank) {
    return meet(place_of(rank, job), {.host = "127.0.0.1", .token = kToken, .timeout = 60});
  });
}

TEST_CASE("direct: a port that another job with the same secret holds is passed over") {
  const std::string job = fresh_job("taken");
  StoreServer stranger({.port = ports_of_job(kToken, job).front(), .token = kToken});
  stranger.publish("k", "of the stranger");
  check_meeting([&](int rank) {
    return meet(place_of(rank, job), {.host = "127.0.0.1", .token = kToken, .timeout = 60});
  });
}

TEST_CASE("direct: where rank 0 does not come, the others say what they looked for") {
  const std::string job = fresh_job("nobody");
  check_error<TimeoutError>(
      "direct_nobody",
      [&] { meet(place_of(1, job), {.host = "127.0.0.1", .token = kToken, .timeout = 0.2}); },
      [](const std::string& text) { return replaced(without_digits(text), "N.N s", "N s"); });
}

TEST_CASE("direct: on one host a Unix socket, without a secret") {
  const std::string job = fresh_job("local");
  check_meeting([&](int rank) { return meet_on_host(place_of(rank, job), 60); });
}

TEST_CASE("hosts: own and foreign addresses") {
  CHECK(is_own_address("127.0.0.1"));
  CHECK(is_own_address("127.0.0.2"));
  CHECK_FALSE(is_own_address("198.51.100.1"));
  CHECK_FALSE(is_own_address("localhost"));
  CHECK(is_this_host("localhost"));
  CHECK_FALSE(is_this_host("198.51.100.1"));
  CHECK(is_loopback("127.0.0.3"));
  CHECK(is_loopback("::1"));
  CHECK_FALSE(is_loopback("10.0.0.1"));
  CHECK(address_to_serve("127.0.0.3") == "127.0.0.3");
  CHECK(address_to_serve("127.0.1.1") == "127.0.1.1");
  CHECK(!host_name().empty());
  CHECK(host_identity() == host_identity());
  check_error<CommError>(
      "host_unknown", [] { address_to_serve("no-such-host.invalid"); },
      [](const std::string& text) { return text.substr(0, text.rfind(':')); });
  check_error<ArgumentError>(
      "host_foreign", [] { address_to_serve("198.51.100.1"); },
      [](const std::string& text) { return replaced(text, host_name(), "HOST"); });
}
