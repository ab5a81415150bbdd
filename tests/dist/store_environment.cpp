// Finding the job's store by the environment.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/direct.hpp>
#include <weft/tests/dist/store_support.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using namespace weft::dist;
using namespace weft::dist::detail;
using namespace weft::test;

namespace {

using Changes = std::vector<std::pair<std::string, std::optional<std::string>>>;

/// All of the job's variables unset, but for `set`.
Changes only(const Changes& set) {
  Changes changes;
  for (const char* name :
       {"WEFT_STORE", "WEFT_TOKEN", "WEFT_TOKEN_FILE", "MASTER_ADDR", "MASTER_PORT", "RANK",
        "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WEFT_JOB_ID", "WEFT_JOIN_TIMEOUT"})
    changes.emplace_back(name, std::nullopt);
  changes.insert(changes.end(), set.begin(), set.end());
  return changes;
}

}  // namespace

TEST_CASE("store from the environment: a process alone has its own") {
  const Environment environment(only({{"WEFT_JOIN_TIMEOUT", "7"}}));
  const auto store = connect_store_from_environment();
  store->set("k", "v");
  CHECK(store->get("k") == "v");
  CHECK(store->default_timeout() == 7);
}

TEST_CASE("store from the environment: WEFT_STORE and WEFT_TOKEN, as the launcher sets them") {
  StoreServer server({.token = kToken});
  server.publish("k", "v");
  const std::string port = std::to_string(server.port());
  const Environment environment(only({{"WEFT_STORE", "tcp://127.0.0.1:" + port},
                                      {"WEFT_TOKEN", kToken},
                                      {"MASTER_ADDR", "127.0.0.1"},
                                      {"MASTER_PORT", port},
                                      {"RANK", "1"},
                                      {"WORLD_SIZE", "2"}}));
  CHECK(connect_store_from_environment()->get("k", 10) == "v");
}

TEST_CASE("store from the environment: without a launcher rank 0 hosts, the secret is in a file") {
  const TempDir folder;
  std::ofstream(folder / "token") << kToken << "\n";
  std::filesystem::permissions(folder / "token", std::filesystem::perms(0640));
  {
    const Environment readable(only({{"WEFT_TOKEN_FILE", (folder / "token").string()}}));
    check_error<ArgumentError>(
        "store_token_readable", [] { token_from_environment(); },
        [&](const std::string& text) { return replaced(text, folder.path(), "FOLDER"); });
  }
  std::filesystem::permissions(folder / "token", std::filesystem::perms(0600));
  int port = 0;
  { const Fd probe = listen_on("127.0.0.1", port); }
  Changes changes = only({{"WEFT_TOKEN_FILE", (folder / "token").string()},
                          {"MASTER_ADDR", "127.0.0.1"},
                          {"MASTER_PORT", std::to_string(port)},
                          {"RANK", "0"},
                          {"WORLD_SIZE", "2"}});
  const Environment environment(changes);
  const auto first = connect_store_from_environment();
  const Environment second_rank(Changes{{"RANK", "1"}});
  const auto second = connect_store_from_environment();
  first->set("k", "v");
  CHECK(second->get("k") == "v");
}

TEST_CASE("store from the environment: what is incomplete or contradictory is named") {
  const auto fails = [](const std::string& name, const Changes& set) {
    const Environment environment(only(set));
    check_error<ArgumentError>(name, [] { connect_store_from_environment(); });
  };
  fails("store_env_no_address", {{"WORLD_SIZE", "2"}, {"RANK", "0"}});
  fails("store_env_half", {{"MASTER_ADDR", "127.0.0.1"}});
  fails("store_env_other_half", {{"MASTER_PORT", "4711"}});
  fails("store_env_conflict", {{"WEFT_STORE", "tcp://127.0.0.1:4711"},
                               {"MASTER_ADDR", "127.0.0.1"},
                               {"MASTER_PORT", "4712"},
                               {"WEFT_TOKEN", kToken}});
  fails("store_env_bad_address", {{"WEFT_STORE", "tcp://localhost"}, {"WEFT_TOKEN", kToken}});
  for (const char* bad : {"4711", ":4711", "host:", "host:0", "host:70000", "host:47x", "[]"}) {
    const Environment environment(only({{"WEFT_STORE", bad}, {"WEFT_TOKEN", kToken}}));
    CHECK_THROWS_AS(connect_store_from_environment(), ArgumentError);
  }
  fails("store_env_no_token", {{"WEFT_STORE", "tcp://127.0.0.1:4711"}});
  fails("store_env_short_token", {{"WEFT_STORE", "tcp://127.0.0.1:4711"}, {"WEFT_TOKEN", "abc"}});
  const Environment environment(
      only({{"WEFT_STORE", "tcp://127.0.0.1:4711"}, {"WEFT_TOKEN_FILE", "/no/such/file"}}));
  check_error<IoError>("store_env_token_file", [] { connect_store_from_environment(); });
}

TEST_CASE(
    "store from the environment: several hosts without a launcher need a secret and an address") {
  const Changes mpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                       {"OMPI_COMM_WORLD_SIZE", "2"},
                       {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                       {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                       {"PMIX_NAMESPACE", "77"},
                       {"PMIX_RANK", "1"}};
  const auto fails = [&](const std::string& name, const Changes& more) {
    Changes changes = only(mpi);
    changes.insert(changes.end(), more.begin(), more.end());
    const Environment environment(changes);
    check_error<ArgumentError>(name, [] { connect_store_from_environment(); });
  };
  fails("store_env_mpi_no_host", {});
  fails("store_env_mpi_no_token", {{"MASTER_ADDR", "127.0.0.1"}});
  // Variables set by hand whose ranks may be elsewhere.
  const Environment environment(only({{"RANK", "1"},
                                      {"WORLD_SIZE", "2"},
                                      {"MASTER_ADDR", "198.51.100.1"},
                                      {"MASTER_PORT", "4711"}}));
  check_error<ArgumentError>("store_env_hand_no_token", [] { connect_store_from_environment(); });
}

TEST_CASE("store from the environment: a process alone needs no secret, whatever torchrun set") {
  const Environment environment(only(
      {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4711"}}));
  connect_store_from_environment()->set("k", "v");
}
