// Launchers of several hosts, which are addresses of the loopback interface here.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>

#include <weft/dist/store/socket.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

using Arguments = std::vector<std::string>;

Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A job's secret and meeting point.
class Meeting {
 public:
  Meeting() {
    std::ofstream(folder_ / "token") << "a secret of the test of nodes\n";
    ::chmod((folder_ / "token").c_str(), 0600);
    const weft::dist::detail::Fd probe = weft::dist::detail::listen_on("127.0.0.2", port_);
  }

  std::unique_ptr<Launched> launch(const Arguments& arguments, const Arguments& variables = {}) {
    variables_.push_back("WEFT_TOKEN_FILE=" + (folder_ / "token").string());
    return std::make_unique<Launched>(joined({"--rdzv_endpoint", endpoint()}, arguments),
                                      joined({variables_.back()}, variables));
  }

  /// The same by a shell, with `where` for its standard output, to its end.
  ProcessResult launch_into(const std::string& where, const Arguments& arguments) {
    Arguments words = {
        "sh", "-c", "exec \"$0\" \"$@\" >" + where, kLauncher, "--rdzv_endpoint", endpoint()};
    return run_process(joined(words, arguments),
                       {.env = {"WEFT_TOKEN_FILE=" + (folder_ / "token").string()}});
  }

  std::string endpoint() const { return "127.0.0.2:" + std::to_string(port_); }

 private:
  TempDir folder_;
  int port_ = 0;
  std::vector<std::string> variables_;
};

std::string first_line(const ProcessResult& result) {
  return result.err.substr(0, result.err.find('\n'));
}

/// What differs from host to host and run to run.
std::string plain(const std::string& text) {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return without_digits(replaced(text, name, "HOST"));
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void check_text(const std::string& name, const std::string& text) {
  const std::string problem = compare_error_text(name, text);
  CHECK_MESSAGE(problem.empty(), problem);
}

}  // namespace

TEST_CASE("nodes: ranks over two hosts with different numbers of ranks") {
  Meeting meeting;
  const Arguments show = {kProbe,
                          "env=RANK",
                          "env=LOCAL_RANK",
                          "env=WORLD_SIZE",
                          "env=LOCAL_WORLD_SIZE",
                          "env=GROUP_RANK",
                          "env=GROUP_WORLD_SIZE",
                          "only=2",
                          "set=k",
                          "all",
                          "get=k"};
  auto a = meeting.launch(joined({"--nnodes", "2", "--node_rank", "0", "-n", "2"}, show));
  auto b = meeting.launch(joined({"--nnodes", "2", "--node_rank", "1", "-n", "1"}, show));
  const auto first = a->finish(), second = b->finish();
  CHECK(first.exit_code == 0);
  CHECK(second.exit_code == 0);
  CHECK(first.err.empty());
  CHECK(second.err.empty());
  for (const char* line :
       {"[0] RANK=0\n", "[1] RANK=1\n", "[1] LOCAL_RANK=1\n", "[1] WORLD_SIZE=3\n",
        "[0] LOCAL_WORLD_SIZE=2\n", "[1] GROUP_RANK=0\n", "[0] GROUP_WORLD_SIZE=2\n", "[0] k=1\n"})
    CHECK_MESSAGE(first.out.find(line) != std::string::npos, line);
  for (const char* line : {"[2] RANK=2\n", "[2] LOCAL_RANK=0\n", "[2] WORLD_SIZE=3\n",
                           "[2] LOCAL_WORLD_SIZE=1\n", "[2] GROUP_RANK=1\n"})
    CHECK_MESSAGE(second.out.find(line) != std::string::npos, line);
}

TEST_CASE("nodes: without --node_rank whoever has the endpoint is host 0, the rest as they come") {
  Meeting meeting;
  std::vector<std::unique_ptr<Launched>> launchers;
  for (int i = 0; i < 3; ++i)
    launchers.push_back(meeting.launch({"--nnodes", "3", kProbe, "env=RANK"}));
  std::string all;
  for (const auto& launcher : launchers) {
    const auto result = launcher->finish();
    CHECK(result.exit_code == 0);
    all += result.out;
  }
  for (const char* line : {"[0] RANK=0\n", "[1] RANK=1\n", "[2] RANK=2\n"})
    CHECK(count_of(all, line) == 1);
}

TEST_CASE("nodes: the first failure is every launcher's first line and exit code") {
  Meeting meeting;
  const Arguments program = {kProbe, "only=3", "signal=KILL", "all", "forever"};
  auto a = meeting.launch(joined({"--nnodes", "2", "--node_rank", "0", "-n", "2"}, program));
  auto b = meeting.launch(joined({"--nnodes", "2", "--node_rank", "1", "-n", "2"}, program));
  const auto first = a->finish(), second = b->finish();
  CHECK(first.exit_code == 137);
  CHECK(second.exit_code == 137);
  CHECK(plain(first_line(first)) == "rank N (pid N) killed by SIGKILL on HOST");
  CHECK(plain(first_line(second)) == "rank N (pid N) killed by SIGKILL");
  CHECK(first_line(first).starts_with(first_line(second)));
  CHECK(first_line(second).starts_with("rank 3 "));
}

TEST_CASE("nodes: success waits for the slowest host, and a late failure there is everybody's") {
  Meeting meeting;
  const Arguments program = {kProbe, "out=up", "only=1", "input", "exit=7"};
  auto a = meeting.launch(joined({"--nnodes", "2", "--node_rank", "0"}, program));
  auto b = meeting.launch(joined({"--nnodes", "2", "--node_rank", "1"},
                                 {kProbe, "block=USR1", "out=up", "await=USR1", "exit=7"}));
  a->wait_for("up");
  b->wait_for("up");
  CHECK(::kill(a->pid(), 0) == 0);
  b->signal(SIGUSR1);
  const auto first = a->finish(), second = b->finish();
  CHECK(first.exit_code == 7);
  CHECK(second.exit_code == 7);
  CHECK(plain(first_line(first)) == "rank N (pid N) exited with N on HOST");
  CHECK(plain(first_line(second)) == "rank N (pid N) exited with N");
}

TEST_CASE("nodes: Ctrl-C at one launcher ends the job on all") {
  Meeting meeting;
  const Arguments program = {"-n", "2", kProbe, "out=up", "forever"};
  auto a = meeting.launch(joined({"--nnodes", "2", "--node_rank", "0"}, program));
  auto b = meeting.launch(joined({"--nnodes", "2", "--node_rank", "1"}, program));
  a->wait_for("up", 2);
  b->wait_for("up", 2);
  b->signal(SIGINT);
  const auto first = a->finish(), second = b->finish();
  CHECK(first.exit_code == 130);
  CHECK(second.exit_code == 130);
  check_text("nodes_sigint_elsewhere", plain(first_line(first)));
}

TEST_CASE("nodes: the time limit holds while hosts are missing") {
  Meeting meeting;
  auto a = meeting.launch({"--nnodes", "2", "--node_rank", "0", "--time_limit", "0.5", kProbe});
  const auto first = a->finish();
  CHECK(first.exit_code == 124);
  CHECK(first_line(first) == "launcher: time limit of 0.5 s reached");
}

TEST_CASE("nodes: Ctrl-C and the time limit end a launcher that waits for node 0 at once") {
  Meeting meeting;
  const auto start = std::chrono::steady_clock::now();
  auto late = meeting.launch({"--nnodes", "2", "--node_rank", "1", "--time_limit", "0.3", kProbe});
  CHECK(late->finish().exit_code == 124);
  CHECK(seconds_since(start) < 8);  // about 1; the wait for an answer would be 10
}

TEST_CASE("nodes: a launcher that is killed ends the job on the other hosts within 10 s") {
  for (const size_t victim : {size_t{0}, size_t{1}}) {
    CAPTURE(victim);
    Meeting meeting;
    const Arguments program = {"-n", "2", kProbe, "out=up", "forever"};
    std::unique_ptr<Launched> launchers[] = {
        meeting.launch(joined({"--nnodes", "2", "--node_rank", "0"}, program)),
        meeting.launch(joined({"--nnodes", "2", "--node_rank", "1"}, program))};
    for (const auto& launcher : launchers) launcher->wait_for("up", 2);
    const auto start = std::chrono::steady_clock::now();
    launchers[victim]->signal(SIGKILL);
    const auto result = launchers[1 - victim]->finish();
    CHECK(result.exit_code == 1);
    CHECK(seconds_since(start) < 20);  // 10 on an idle machine
    const std::string line = plain(first_line(result));
    if (victim == 1)
      CHECK(line.starts_with("launcher: node N HOST (N.N.N.N) is gone: "));
    else
      CHECK(line.starts_with("launcher: lost the launcher of node N at N.N.N.N: "));
    launchers[victim]->finish();
  }
}

TEST_CASE("nodes: F09 node 0's launcher killed while the ranks of all hosts meet") {
#ifdef WEFT_WITHOUT_GLOO
  WEFT_SKIP("weft was built without gloo");
#endif
  const std::string trainee = WEFT_BUILD_ROOT "/tests/launcher/trainee";
  for (const std::string absent : {"0", "1"}) {
    CAPTURE(absent);
    Meeting meeting;
    // One rank has begun to join; the other one never will.
    const Arguments program = {trainee, "only=" + absent, "absent", "all", "say=joins", "join"};
    std::unique_ptr<Launched> launchers[] = {
        meeting.launch(joined({"--nnodes", "2", "--node_rank", "0"}, program)),
        meeting.launch(joined({"--nnodes", "2", "--node_rank", "1"}, program))};
    for (const char* node : {"0", "1"})
      launchers[*node - '0']->wait_for(absent == node ? "absent" : "joins");
    const auto start = std::chrono::steady_clock::now();
    launchers[0]->signal(SIGKILL);
    const auto result = launchers[1]->finish();
    CHECK(result.exit_code == 1);
    CHECK(seconds_since(start) < 20);  // 7 on an idle machine
    MESSAGE("the other launcher ended after " << seconds_since(start) << " s");
    bool told = false;  // the rank may say first that it has lost the store
    for (const std::string& line : own_lines(result.err))
      told = told || line.starts_with("launcher: lost the launcher of node 0 at 127.0.0.2: ");
    CHECK_MESSAGE(told, result.err);
    launchers[0]->finish();
  }
}

TEST_CASE("nodes: a node rank that is given twice, another number of hosts") {
  Meeting meeting;
  auto a = meeting.launch({"--nnodes", "2", "--node_rank", "0", "--join_timeout", "60", kProbe});
  auto twice = meeting.launch({"--nnodes", "2", "--node_rank", "0", kProbe});
  // Either of the two may have been first.
  auto other = meeting.launch({"--nnodes", "3", "--node_rank", "1", kProbe});
  const auto wrong = other->finish();
  CHECK(wrong.exit_code == 2);
  check_text("nodes_wrong_nnodes", plain(wrong.err));
  auto b = meeting.launch({"--nnodes", "2", "--node_rank", "1", kProbe});
  CHECK(b->finish().exit_code == 0);
  const auto one = a->finish(), two = twice->finish();
  CHECK(one.exit_code + two.exit_code == 2);
  check_text("nodes_rank_twice", plain(one.exit_code == 2 ? one.err : two.err));
}

TEST_CASE("nodes: --num_processes is dealt out among hosts that are not numbered") {
  Meeting meeting;
  const Arguments words = {"--nnodes", "2", "--num_processes", "3", kProbe, "env=WORLD_SIZE"};
  auto a = meeting.launch(words), b = meeting.launch(words);
  const auto first = a->finish(), second = b->finish();
  CHECK(first.exit_code == 0);
  CHECK(second.exit_code == 0);
  CHECK(count_of(first.out + second.out, " WORLD_SIZE=3\n") == 3);
}

TEST_CASE("nodes: hosts that disagree about --num_processes, or have more hosts than ranks") {
  Meeting meeting;
  auto a = meeting.launch(
      {"--nnodes", "2", "--node_rank", "0", "--num_processes", "4", kProbe, "out=up"});
  auto other =
      meeting.launch({"--nnodes", "2", "--node_rank", "1", "--num_processes", "2", kProbe});
  const auto wrong = other->finish();
  CHECK(wrong.exit_code == 2);
  check_text("nodes_wrong_total", plain(wrong.err));
  a->signal(SIGINT);
  CHECK(a->finish().exit_code == 130);
  auto few = meeting.launch({"--nnodes", "1:3", "--num_processes", "2", kProbe});
  const auto result = few->finish();
  CHECK(result.exit_code == 2);
  check_text("nodes_few_ranks", result.err);
}

TEST_CASE("nodes: a host that does not come is named within the join timeout") {
  Meeting meeting;
  const Arguments common = {"--nnodes", "3", "--join_timeout", "2"};
  auto a = meeting.launch(joined(common, {"--node_rank", "0", kProbe}));
  auto c = meeting.launch(joined(common, {"--node_rank", "2", kProbe}));
  const auto first = a->finish(), third = c->finish();
  CHECK(first.exit_code == 1);
  CHECK(third.exit_code == 1);
  check_text("nodes_join_timeout", plain(first.err));
}

TEST_CASE("nodes: nobody at the endpoint") {
  Meeting meeting;
  auto b = meeting.launch({"--nnodes", "2", "--node_rank", "1", "--join_timeout", "1", kProbe});
  const auto result = b->finish();
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("launcher: lost the launcher of node 0 at 127.0.0.2: ") == 0);
}

TEST_CASE("nodes: what is missing is named, exit code 2") {
  const auto without_endpoint = launch({"--nnodes", "2", kProbe});
  CHECK(without_endpoint.exit_code == 2);
  check_text("nodes_no_endpoint", without_endpoint.err);
  const auto without_token = launch({"--nnodes", "2", "--rdzv_endpoint", "127.0.0.2", kProbe});
  CHECK(without_token.exit_code == 2);
  check_text("nodes_no_token", without_token.err);
}

TEST_CASE("nodes: output that one host cannot keep is no success on any") {
  Meeting meeting;
  const Arguments program = {"-n", "2", kProbe, "out=words"};
  auto a = meeting.launch(joined({"--nnodes", "2", "--node_rank", "0"}, program));
  const auto second =
      meeting.launch_into("/dev/full", joined({"--nnodes", "2", "--node_rank", "1"}, program));
  const auto first = a->finish();
  CHECK(first.exit_code == 1);
  CHECK(second.exit_code == 1);
  CHECK(count_of(first.out, "words") == 2);
  check_text("nodes_output_lost_there", plain(first.err));
  check_text("nodes_output_lost_here", plain(second.err));
}

TEST_CASE("nodes: the ranks end where the endpoint has no port, found by the job's name") {
  Meeting meeting;
  const auto start = [&](const char* rank) {
    auto launcher = meeting.launch({"--nnodes", "2", "--node_rank", rank, "--rdzv_id", "a-name",
                                    "-n", "1", kProbe, "env=WEFT_JOB_ID"});
    return launcher;
  };
  auto a = start("0"), b = start("1");
  CHECK(a->finish().out == "[0] WEFT_JOB_ID=a-name\n");
  CHECK(b->finish().out == "[1] WEFT_JOB_ID=a-name\n");
}
