// Attempts after the first one.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <string>

#include <weft/dist/store/socket.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

std::vector<std::string> plain_lines(const ProcessResult& result) {
  std::vector<std::string> lines = own_lines(result.err);
  for (std::string& line : lines) line = without_digits(line);
  return lines;
}

bool contains(const std::vector<std::string>& lines, const std::string& wanted) {
  for (const std::string& line : lines)
    if (line == wanted) return true;
  return false;
}

}  // namespace

TEST_CASE("restarts: all ranks start again, with the number of the attempt and an empty store") {
  // Each attempt would see a key that an earlier one left.
  const auto result =
      launch({"-n", "2", "--max_restarts", "3", kProbe, "env=RESTART_COUNT", "attempt=0", "exit=7",
              "all", "env=TORCHELASTIC_RESTART_COUNT", "only=1", "set=k", "all", "get=k"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("[0] RESTART_COUNT=1\n") != std::string::npos);
  CHECK(result.out.find("[1] TORCHELASTIC_RESTART_COUNT=1\n") != std::string::npos);
  CHECK(count_of(result.out, "RESTART_COUNT=2") == 0);
  const auto lines = plain_lines(result);
  REQUIRE(!lines.empty());
  CHECK(lines[0] == "rank N (pid N) exited with N");
  CHECK(contains(lines, "launcher: starting all ranks again, attempt N of at most N"));
}

TEST_CASE("restarts: when none is left, a summary and the last failure's code") {
  const auto result =
      launch({"-n", "2", "--max_restarts", "2", kProbe, "only=1", "attempt=0", "exit=7", "only=1",
              "attempt=1", "signal=KILL", "only=0", "attempt=2", "exit=9", "all", "forever"});
  CHECK(result.exit_code == 9);
  const auto lines = plain_lines(result);
  CHECK(contains(lines, "launcher: attempt N: rank N (pid N) exited with N after N.N s"));
  CHECK(contains(lines, "launcher: attempt N: rank N (pid N) killed by SIGKILL after N.N s"));
  CHECK(count_of(result.err, "launcher: attempt ") == 3);
}

TEST_CASE("restarts: a program that cannot be started is not started again") {
  const TempDir folder;
  const std::string script = folder / "script";
  std::ofstream(script) << "#!/no/such/interpreter\n";
  ::chmod(script.c_str(), 0755);
  const auto result = launch({"-n", "2", "--max_restarts", "3", script});
  CHECK(result.exit_code == 127);
  CHECK(count_of(result.err, "starting all ranks again") == 0);
}

TEST_CASE("restarts: the summary stands at the end of a later attempt, however that one ends") {
  const auto ends = [](const ProcessResult& result, int code, const std::string& how) {
    CAPTURE(how);
    CAPTURE(result.err);
    CHECK(result.exit_code == code);
    const auto lines = plain_lines(result);
    CHECK(count_of(result.err, "launcher: attempt ") == 2);
    CHECK(contains(lines, "launcher: attempt N: rank N (pid N) exited with N after N.N s"));
    bool found = false;
    for (const std::string& line : lines)
      found = found || line.starts_with("launcher: attempt N: " + how);
    CHECK(found);
  };
  const TempDir folder;
  const std::string script = folder / "script";
  const auto write = [&](const std::string& text) {
    std::ofstream(script + ".new") << "#!/bin/sh\n" << text << "exit 7\n";
    ::chmod((script + ".new").c_str(), 0755);
    ::rename((script + ".new").c_str(), script.c_str());
  };
  write("rm -f '" + script + "'\n");
  ends(launch({"--max_restarts", "3", script}), 127, "");
  write("chmod -x '" + script + "'\n");
  ends(launch({"--max_restarts", "3", script}), 126, "");
  ends(launch({"--max_restarts", "3", kProbe, "attempt=0", "exit=7", "all"}), 0, "ended after ");
  ends(launch({"--max_restarts", "3", "--time_limit", "3", kProbe, "attempt=0", "exit=7", "all",
               "forever"}),
       124, "time limit of ");
  // What is in the way of the second attempt's files comes with the first one.
  const std::string logs = folder / "logs";
  write("touch \"$(echo '" + logs + "'/*)/attempt_1\"\n");
  const auto blocked = launch({"--max_restarts", "3", "--log_dir", logs, script});
  CHECK(blocked.exit_code == 2);
  CHECK(count_of(blocked.err, "launcher: attempt 0: rank 0 ") == 1);

  Launched launched(
      {"--max_restarts", "3", kProbe, "attempt=0", "exit=7", "all", "out=up", "forever"});
  launched.wait_for("up");
  launched.signal(SIGINT);
  ends(launched.finish(), 130, "SIGINT after ");
}

TEST_CASE("restarts: neither Ctrl-C nor the time limit starts anything again") {
  Launched launched({"-n", "2", "--max_restarts", "5", kProbe, "out=up", "forever"});
  launched.wait_for("up", 2);
  launched.signal(SIGINT);
  const auto result = launched.finish();
  CHECK(result.exit_code == 130);
  CHECK(count_of(result.out, "up") == 2);
  const auto late = launch({"--max_restarts", "5", "--time_limit", "0.3", kProbe, "forever"});
  CHECK(late.exit_code == 124);
}

namespace {

/// Launchers of an elastic job, on one secret and endpoint.
struct Elastic {
  TempDir folder;
  int port = 0;
  std::string variable;

  Elastic() {
    std::ofstream(folder / "token") << "a secret of the test of restarts\n";
    ::chmod((folder / "token").c_str(), 0600);
    variable = "WEFT_TOKEN_FILE=" + (folder / "token").string();
    const weft::dist::detail::Fd probe = weft::dist::detail::listen_on("127.0.0.3", port);
  }
  std::unique_ptr<Launched> start(const std::string& nodes,
                                  const std::vector<std::string>& more = {"-n", "1"},
                                  const std::string& shown = "WORLD_SIZE") {
    std::vector<std::string> arguments = {"--nnodes", nodes, "--rdzv_endpoint",
                                          "127.0.0.3:" + std::to_string(port)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), {kProbe, "env=" + shown, "forever"});
    return std::make_unique<Launched>(arguments, std::vector<std::string>{variable});
  }
};

}  // namespace

TEST_CASE("restarts: an elastic job of enough hosts starts at the join timeout") {
  Elastic job;
  auto a = job.start("1:2", {"-n", "1", "--join_timeout", "1"});
  a->wait_for("WORLD_SIZE=1");
  a->signal(SIGINT);
  CHECK(a->finish().exit_code == 130);
}

TEST_CASE("restarts: SIGTERM takes a host from an elastic job, whose ranks are dealt out anew") {
  Elastic job;
  const auto start = [&](const char* node) {
    return job.start("1:2", {"--node_rank", node, "--num_processes", "3"}, "LOCAL_WORLD_SIZE");
  };
  const auto host = start("0"), guest = start("1");
  host->wait_for("LOCAL_WORLD_SIZE=2", 2);
  guest->wait_for("LOCAL_WORLD_SIZE=1");
  guest->signal(SIGTERM);
  CHECK(guest->finish().exit_code == 143);
  host->wait_for("LOCAL_WORLD_SIZE=3", 3);
  host->signal(SIGINT);
  const auto result = host->finish();
  CHECK(result.exit_code == 130);
  CHECK(count_of(result.err, " leaves: SIGTERM to the launcher") >= 1);
}

TEST_CASE("restarts: an elastic job goes on without a host that died, and with one that comes") {
  Elastic job;
  auto a = job.start("1:2");
  a->wait_for("WORLD_SIZE=1");  // alone, after the last call
  auto b = job.start("1:2");
  a->wait_for("WORLD_SIZE=2");
  b->wait_for("WORLD_SIZE=2");
  b->signal(SIGKILL);
  b->finish();
  a->wait_for("WORLD_SIZE=1", 2);
  a->signal(SIGTERM);
  const auto result = a->finish();
  CHECK(result.exit_code == 143);
  CHECK(count_of(result.err, "joined; starting again with it") >= 1);
  CHECK(count_of(result.err, "launcher: attempt ") == 3);
}
