// --hostfile, with a script in the place of ssh and loopback addresses in that of hosts.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include <weft/launcher/error.hpp>
#include <weft/launcher/hosts.hpp>
#include <weft/launcher/messages.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

/// A hostfile, and a command that runs what ssh would run on the other host.
struct Cluster {
  TempDir folder;
  std::string hostfile, ssh, log;

  explicit Cluster(const std::string& hosts) {
    hostfile = folder / "hosts";
    ssh = folder / "ssh";
    log = folder / "log";
    std::ofstream(hostfile) << hosts;
    std::ofstream(ssh) << "#!/bin/sh\n"
                       << "echo \"$*\" >> " << log << "\n"
                       << "case $1 in unreachable) echo 'ssh: no route to host' >&2; exit 255;; "
                          "esac\n"
                       << "shift\ncd /\nexec sh -c \"$*\"\n";
    ::chmod(ssh.c_str(), 0755);
  }

  std::vector<std::string> arguments(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"--hostfile", hostfile, "--ssh", ssh};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  std::string logged() const {
    std::ifstream file(log);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
};

const std::string kTwoHosts = "127.0.0.2 slots=2\n127.0.0.3\n";

std::string plain(const std::string& text) {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return without_digits(replaced(text, name, "HOST"));
}

void check_text(const std::string& name, const std::string& text) {
  const std::string problem = compare_error_text(name, text);
  CHECK_MESSAGE(problem.empty(), problem);
}

LaunchOptions with_hosts(int ranks, std::optional<int> total = {}) {
  LaunchOptions options;
  options.ranks = ranks;
  options.total_ranks = total;
  options.hostfile = "hosts";
  for (const Option& option : option_table()) {
    Setting setting{.option = &option};
    if (total && name_of(option) == "num_processes") {
      setting.value = std::to_string(*total);
      setting.layer = Layer::flag;
      setting.origin = setting.spelling = "--num_processes";
    }
    if (name_of(option) == "hostfile") {
      setting.value = options.hostfile;
      setting.layer = Layer::flag;
      setting.origin = setting.spelling = "--hostfile";
    }
    options.settings.push_back(setting);
  }
  return options;
}

}  // namespace

TEST_CASE(
    "hosts: launchers through ssh, the program's arguments byte for byte, no secret in sight") {
  const Cluster cluster(kTwoHosts);
  const auto result =
      launch(cluster.arguments({"--env", "FOO=x 'y' \"z\"", kProbe, "env=RANK", "env=FOO",
                                "env=LOCAL_WORLD_SIZE", "env=GROUP_RANK", "only=2", "set=k", "all",
                                "get=k", "--", "a b", "c'd", "$HOME \"e\" `f` \\g", "*"}));
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  for (const char* line :
       {"[0] RANK=0\n", "[1] RANK=1\n", "[2] RANK=2\n", "[0] FOO=x 'y' \"z\"\n", "[2] a b\n",
        "[1] c'd\n", "[2] $HOME \"e\" `f` \\g\n", "[0] *\n", "[0] LOCAL_WORLD_SIZE=2\n",
        "[2] LOCAL_WORLD_SIZE=1\n", "[2] GROUP_RANK=1\n", "[0] k=1\n"})
    CHECK_MESSAGE(count_of(result.out, line) == 1, line);
  // The command that ssh gets says where the launcher is, and nothing else.
  CHECK(cluster.logged().find("127.0.0.3 exec '" + kLauncher + "' remote\n") != std::string::npos);
}

TEST_CASE("hosts: filters choose among the hosts of the hostfile and their slots") {
  const Cluster cluster("127.0.0.2 slots=2\n127.0.0.3 slots=4\nunreachable\n");
  const auto result = launch(cluster.arguments({"--exclude", "unreachable@127.0.0.3:0,1,3", kProbe,
                                                "env=WORLD_SIZE", "env=LOCAL_WORLD_SIZE"}));
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "] WORLD_SIZE=3\n") == 3);
  CHECK(count_of(result.out, "[2] LOCAL_WORLD_SIZE=1\n") == 1);
  const auto one = launch(cluster.arguments({"--include=127.0.0.2:1", kProbe, "env=WORLD_SIZE"}));
  CHECK(one.exit_code == 0);
  CHECK(count_of(one.out, "WORLD_SIZE=1\n") == 1);
}

TEST_CASE("hosts: ranks run in the folder where the launcher was started") {
  const Cluster cluster("127.0.0.2\n");
  char folder[4096] = "";
  REQUIRE(::getcwd(folder, sizeof folder) != nullptr);
  const auto result = launch(cluster.arguments({"/bin/pwd"}));
  CHECK(result.out == std::string(folder) + "\n");
}

TEST_CASE("hosts: the first failure stands first, once, and its code is the launcher's") {
  const Cluster cluster(kTwoHosts);
  const auto result = launch(
      cluster.arguments({kProbe, "only=2", "err=the last words", "signal=KILL", "all", "forever"}));
  CHECK(result.exit_code == 137);
  const auto lines = own_lines(result.err);
  REQUIRE(!lines.empty());
  CHECK(plain(lines[0]) == "rank N (pid N) killed by SIGKILL on HOST");
  CHECK(lines[0].starts_with("rank 2 "));
  CHECK(count_of(result.err, "killed by SIGKILL") == 1);
  // Lines of the other host may come in between.
  CHECK(count_of(result.err, "launcher: the last lines of rank 2 on stderr:\n") == 1);
  CHECK(count_of(result.err, "\n  the last words\n") == 1);
}

TEST_CASE("hosts: a program that is nowhere, a host that cannot be reached") {
  const Cluster cluster(kTwoHosts);
  CHECK(launch(cluster.arguments({"./no-such-program"})).exit_code == 127);
  const Cluster other("127.0.0.2\nunreachable\n");
  const auto result = launch(other.arguments({"--rdzv_endpoint", "127.0.0.2", kProbe, "forever"}));
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("launcher: the launcher on unreachable could not start, or ended early, "
                        "with 255: ssh: no route to host\n") != std::string::npos);
}

TEST_CASE("hosts: Ctrl-C ends all, and the launcher's own death leaves nobody") {
  const Cluster cluster(kTwoHosts);
  Launched launched(cluster.arguments({kProbe, "out=up", "forever"}));
  launched.wait_for("up", 3);
  launched.signal(SIGINT);
  const auto result = launched.finish();
  CHECK(result.exit_code == 130);
  CHECK(result.err.find("launcher: SIGINT; ending the job on all hosts\n") == 0);

  Launched killed(cluster.arguments({kProbe, "pid", "forever"}));
  killed.wait_for("pid ", 3);
  killed.signal(SIGKILL);
  for (const pid_t pid : killed.pids("pid")) CHECK(ends_soon(pid));
  killed.finish();
}

TEST_CASE("hosts: the launcher's own death kills ranks that ignore SIGTERM, without the grace") {
  for (const bool through_ssh : {true, false}) {
    CAPTURE(through_ssh);
    const Cluster cluster(kTwoHosts);
    std::vector<std::string> arguments = {"--hostfile", cluster.hostfile, "--grace", "300",
                                          kProbe,       "ignore=TERM",    "pid",     "forever"};
    if (through_ssh) arguments.insert(arguments.begin(), {"--ssh", cluster.ssh});
    Launched launched(arguments);
    launched.wait_for("pid ", 3);
    launched.signal(SIGKILL);
    for (const pid_t pid : launched.pids("pid")) CHECK(ends_soon(pid));
    launched.finish();
  }
}

TEST_CASE("hosts: a hostfile and flags that the environment names are the job's, and said once") {
  const Cluster cluster(kTwoHosts);
  const auto result = launch(
      {"--ssh", cluster.ssh, kProbe, "env=WORLD_SIZE", "env=WEFT_STATS"},
      {"WEFT_HOSTFILE=" + cluster.hostfile, "PET_NNODES=2", "WEFT_STATS=yes", "WEFT_CPU=on"});
  CHECK(result.exit_code == 0);
  CHECK_MESSAGE(result.err.empty(), result.err);
  CHECK(count_of(result.out, "WORLD_SIZE=3") == 3);
  CHECK(count_of(cluster.logged(), " remote\n") == 2);
  const auto here = launch({kProbe, "env=WORLD_SIZE"}, {"WEFT_HOSTFILE=" + cluster.hostfile});
  CHECK(here.exit_code == 0);
  CHECK_MESSAGE(here.err.empty(), here.err);
  CHECK(count_of(here.out, "WORLD_SIZE=3") == 3);
}

TEST_CASE("hosts: a flag is one however it is written, and there is no end to arguments") {
  LaunchOptions options = with_hosts(1);
  options.command = {"program"};
  for (Setting& setting : options.settings)
    if (name_of(*setting.option) == "stats" || name_of(*setting.option) == "debug") {
      setting.value = name_of(*setting.option) == "stats" ? "yes" : "off";
      setting.layer = Layer::environment;
    }
  const auto arguments = node_arguments(options, 2, 0, 1, "h:1", "job");
  CHECK(std::count(arguments.begin(), arguments.end(), "--stats") == 1);
  CHECK(std::count(arguments.begin(), arguments.end(), "--debug") == 0);

  const Cluster cluster("127.0.0.2\n");
  std::vector<std::string> words = {kProbe, "out=up", "--"};
  words.insert(words.end(), 5000, "x");
  const auto result = launch(cluster.arguments(words));
  CHECK(result.exit_code == 0);
  CHECK_MESSAGE(result.err.empty(), result.err);
}

TEST_CASE("hosts: SIGUSR1 and SIGUSR2 reach the ranks of all hosts") {
  const Cluster cluster(kTwoHosts);
  Launched launched(cluster.arguments({kProbe, "block=USR1", "block=USR2", "out=up", "await=USR1",
                                       "out=one", "await=USR2", "out=two"}));
  launched.wait_for("up", 3);
  launched.signal(SIGUSR1);
  launched.wait_for("one", 3);
  launched.signal(SIGUSR2);
  const auto result = launched.finish();
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "two") == 3);
}

TEST_CASE("hosts: restarts over ssh, with one summary") {
  const Cluster cluster(kTwoHosts);
  const auto result =
      launch(cluster.arguments({"--max_restarts", "1", kProbe, "only=1", "attempt=0", "exit=3",
                                "all", "only=2", "attempt=1", "exit=4", "all", "forever"}));
  CHECK(result.exit_code == 4);
  CHECK(count_of(result.err, "launcher: attempt 0 (2 hosts, 3 ranks): rank 1 ") == 1);
  CHECK(count_of(result.err, "launcher: attempt 1 (2 hosts, 3 ranks): rank 2 ") == 1);
  CHECK(count_of(result.err, "launcher: starting again") == 1);
}

TEST_CASE("hosts: output that cannot be kept, here or in a host's files, is no success") {
  const Cluster cluster(kTwoHosts);
  const std::string here = "\"$0\" --hostfile '" + cluster.hostfile + "' ";
  const auto full =
      run_process({"sh", "-c", "exec " + here + "\"$1\" out=words >/dev/full", kLauncher, kProbe});
  CHECK(full.exit_code == 1);
  check_text("hosts_output_lost", full.err);
  const auto failed = run_process(
      {"sh", "-c", "exec " + here + "\"$1\" out=words exit=7 >/dev/full", kLauncher, kProbe});
  CHECK(failed.exit_code == 7);

  const std::string logs = cluster.folder / "logs";
  const auto files = run_process({"unshare", "-rm", "sh", "-c",
                                  "mkdir '" + logs + "' && mount -t tmpfs -o size=64k none '" +
                                      logs + "' && exec " + here + "--log_dir '" + logs +
                                      "' \"$1\" only=2 long=200000 out=after",
                                  kLauncher, kProbe});
  if (files.err.find("unshare") != std::string::npos)
    WEFT_SKIP("no mount namespaces: " + files.err);
  CAPTURE(files.err);
  CHECK(files.exit_code == 1);
  CHECK(count_of(files.out, "[2] after\n") == 1);
  CHECK(count_of(files.err, "stdout.log: No space left on device; the file is not complete") == 1);
  CHECK(count_of(plain(files.err), "launcher: output of the ranks on HOST is lost, see there\n") ==
        1);
}

TEST_CASE("hosts: num_processes is dealt out among the hosts that take part in an attempt") {
  const Cluster cluster("127.0.0.2\n127.0.0.3\nunreachable\n");
  Launched launched(cluster.arguments({"--nnodes", "1:3", "--num_processes", "5", "--rdzv_endpoint",
                                       "127.0.0.2", "--join_timeout", "60", kProbe,
                                       "env=LOCAL_WORLD_SIZE", "pid", "forever"}));
  launched.wait_for("pid ", 5);
  CHECK(count_of(launched.out(), "LOCAL_WORLD_SIZE=3\n") == 3);
  CHECK(count_of(launched.out(), "LOCAL_WORLD_SIZE=2\n") == 2);
  launched.signal(SIGINT);
  CHECK(launched.finish().exit_code == 130);
  const Cluster slots("127.0.0.2 slots=2\n127.0.0.3 slots=1\n");
  const auto result =
      launch(slots.arguments({"--num_processes", "3", kProbe, "env=LOCAL_WORLD_SIZE"}));
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "LOCAL_WORLD_SIZE=2\n") == 2);
  CHECK(count_of(result.out, "LOCAL_WORLD_SIZE=1\n") == 1);
}

TEST_CASE("hosts: numbers of ranks") {
  CHECK(ranks_of_hosts({{"a", 4}, {"b", 0}}, with_hosts(2)) == std::vector<int>{4, 2});
  CHECK(ranks_of_hosts({{"a", 0}, {"b", 0}}, with_hosts(1, 5)) == std::vector<int>{3, 2});
  CHECK(ranks_of_hosts({{"a", 4}, {"b", 1}}, with_hosts(1, 5)) == std::vector<int>{4, 1});
  check_error<LaunchError>("hosts_total", [] {
    ranks_of_hosts({{"a", 4}, {"b", 2}}, with_hosts(1, 5));
  });
  check_error<LaunchError>("hosts_too_few", [] {
    ranks_of_hosts({{"a", 0}, {"b", 0}}, with_hosts(1, 1));
  });
  const Cluster cluster(kTwoHosts);
  const auto result = launch(cluster.arguments({"-n", "4", kProbe}));
  CHECK(result.exit_code == 2);
  check_text("hosts_slots", replaced(result.err, cluster.hostfile, "FILE"));
  const auto nodes = launch(cluster.arguments({"--nnodes", "3", kProbe}));
  CHECK(nodes.exit_code == 2);
  check_text("hosts_nnodes", replaced(nodes.err, cluster.hostfile, "FILE"));
}

TEST_CASE("hosts: numbers of a configuration file that fit nothing are named by file and line") {
  const Cluster cluster(kTwoHosts);
  const std::string config = cluster.folder / "config.yaml";
  const auto fails = [&](const std::string& name, const std::string& yaml,
                         std::vector<std::string> arguments) {
    std::ofstream(config) << yaml;
    arguments.insert(arguments.begin(), {"--config_file", config, "--ssh", cluster.ssh});
    arguments.push_back(kProbe);
    const auto result = launch(arguments);
    CHECK(result.exit_code == 2);
    check_text(name,
               replaced(replaced(result.err, cluster.hostfile, "HOSTFILE"), config, "CONFIG"));
  };
  const std::string file = "hostfile: " + cluster.hostfile + "\n";
  fails("hosts_config_nnodes", "num_machines: 3\n", {"--hostfile", cluster.hostfile});
  fails("hosts_config_total", "num_processes: 5\n" + file, {});
  fails("hosts_config_slots", file, {"-n", "4"});
  fails("hosts_config_both", file, {"--nnodes", "3"});
  std::ofstream(cluster.hostfile) << "127.0.0.2\n127.0.0.3\n";
  fails("hosts_config_few", "num_processes: 1\n", {"--hostfile", cluster.hostfile});
  fails("hosts_config_missing", "hostfile: /no/such/file\n", {});
}

TEST_CASE("hosts: orders and messages survive the way, and nothing else is taken for them") {
  CHECK(shell_quoted("a'b c") == "'a'\\''b c'");
  const Fields fields = {"", "a", std::string("\0\n", 2)};
  CHECK(unpack(pack(fields)) == fields);
  const std::string bytes = pack(fields);
  for (size_t size = 0; size < bytes.size(); ++size) CHECK_FALSE(unpack(bytes.substr(0, size)));
  CHECK_FALSE(unpack(bytes + "x"));
  CHECK_FALSE(unpack(std::string("\xff\xff\xff\xff", 4)));
  CHECK(sender_of(key_from("ab", 3)) == "ab");
  CHECK(sender_of("rank_exit/1").empty());
  const NodeHello hello{
      .host = "h", .version = "1", .nodes = "2", .node_rank = 1, .ranks = 4, .total = 7};
  const auto parsed = parse_hello(to_fields(hello));
  REQUIRE(parsed.has_value());
  CHECK(parsed->node_rank == 1);
  CHECK(parsed->ranks == 4);
  CHECK(parsed->total == 7);
  CHECK_FALSE(parse_hello({"hello", "h", "1", "2", "-1", "4", "", "0"}));
  CHECK_FALSE(parse_hello({"hello", "h", "1", "2", "", "-1", "", "0"}));
  CHECK_FALSE(parse_hello({"hello", "h", "1", "2", "", "1", "", "x"}));
  CHECK_FALSE(parse_assignment({"start", "0", "1", "1", "0", "0", "x", "id"}));
  const auto alone = launch({"remote"});
  CHECK(alone.exit_code == 2);
  check_text("hosts_remote_alone", alone.err);
}
