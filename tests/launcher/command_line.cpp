// The command line: options, commands, errors before anything is started.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <weft/launcher/command_line.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/help.hpp>
#include <weft/launcher/options.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

std::filesystem::path write_file(const std::filesystem::path& path, const std::string& text,
                                 bool executable) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), executable ? 0755 : 0644);
  return path;
}

/// The launcher refuses the arguments with the exit code and a line, the folder taken out of it.
void refuses(const std::string& name, int code, const std::vector<std::string>& arguments,
             const std::string& folder = "/no/such", const std::string& variable = "A=b") {
  CAPTURE(name);
  const auto result = launch(arguments, {variable});
  CHECK(result.exit_code == code);
  CHECK(result.out.empty());
  REQUIRE(result.err.starts_with("launcher: "));
  REQUIRE(result.err.ends_with("\n"));
  const std::string text = result.err.substr(10, result.err.size() - 11);
  CHECK(text.find('\n') == std::string::npos);
  CHECK(compare_error_text(name, replaced(text, folder, "FOLDER")) == "");
}

LaunchOptions options_of(const std::vector<std::string>& arguments) {
  return resolve(parse_command_line(arguments));
}

}  // namespace

TEST_CASE("launcher: --version and --help") {
  const auto version = launch({"--version"});
  CHECK(version.exit_code == 0);
  CHECK(version.out == "weft launcher 0.1.0\n");
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"--help"}, {"-h"}, {"launch", "--help"}, {"help", "launch"}, {"-n", "2", "--help"}}) {
    const auto help = launch(arguments);
    CHECK(help.exit_code == 0);
    CHECK(help.out == launch_help());
    CHECK(help.err.empty());
  }
  for (const std::string& flag : launch_flag_names())
    CHECK_MESSAGE((options_help() + launch_help()).find("--" + flag) != std::string::npos, flag);
  CHECK(launch({"help", "options"}).out == options_help());
  const auto nothing = launch({});
  CHECK(nothing.exit_code == kExitUsage);
  CHECK(nothing.err == launch_help());
}

TEST_CASE("launcher: a program's own options and bytes reach it unchanged") {
  const std::string bytes = "a $$ b ${RANK} \\n * \xff\xfe\n second";
  for (const auto& start :
       std::vector<std::vector<std::string>>{{"-n", "1"},
                                             {"launch", "-n", "1"},
                                             {"-n1", "--"},
                                             {"--nproc_per_node=1"},
                                             {"--nproc-per-node", "1"},
                                             {"--num_processes", "1", "--time-limit", "60"},
                                             {}}) {
    std::vector<std::string> arguments = start;
    for (const std::string& word : {kProbe, std::string("--"), std::string("-n"), std::string("7"),
                                    std::string("--help"), std::string("--"), std::string(), bytes})
      arguments.push_back(word);
    const auto result = launch(arguments);
    CHECK(result.exit_code == 0);
    CHECK(result.out == "-n\n7\n--help\n--\n\n" + bytes + "\n");
  }
}

TEST_CASE("launcher: usage errors name value and remedy, exit code 2") {
  refuses("launcher_ranks_zero", 2, {"-n", "0", kProbe});
  refuses("launcher_ranks_negative", 2, {"-n", "-3", kProbe});
  refuses("launcher_ranks_word", 2, {"--nproc_per_node", "many", kProbe});
  refuses("launcher_ranks_too_many", 2, {"-n", "1000000", kProbe});
  refuses("launcher_ranks_missing", 2, {"-n"});
  refuses("launcher_ranks_twice", 2, {"-n", "2", "--nproc-per-node", "3", kProbe});
  refuses("launcher_ranks_conflict", 2, {"-n", "2", "--num_processes", "3", kProbe});
  refuses("launcher_no_program", 2, {"-n", "2"});
  refuses("launcher_time_limit_zero", 2, {"--time_limit", "0", kProbe});
  refuses("launcher_grace_negative", 2, {"--grace=-1", kProbe});
  refuses("launcher_grace_variable", 2, {kProbe}, "/no/such", "WEFT_GRACE=soon");
  refuses("launcher_timeout_word", 2, {"--join_timeout", "2.5", kProbe});
  refuses("launcher_auto_threads", 2, {"-n", "auto", kProbe}, "/no/such", "WEFT_NUM_THREADS=all");
  refuses("launcher_unknown_option", 2, {"--nproc_per_nod", "2", kProbe});
  refuses("launcher_unknown_beginning", 2, {"--nproc", "2", kProbe});
  refuses("launcher_unknown_beginning_dashes", 2, {"--nproc-per", "2", kProbe});
  refuses("launcher_unknown_short", 2, {"--n", "2", kProbe});
  refuses("launcher_unknown_capitals", 2, {"--NUM-PROCESSES", "2", kProbe});
  refuses("launcher_unknown_far", 2, {"--no_tpu_cluster", kProbe});
  refuses("launcher_accelerate_tpu", 2, {"--vm", "a", kProbe});
  refuses("launcher_unknown_mpirun", 2, {"-np", "2", kProbe});
  refuses("launcher_help_value", 2, {"--help=all", kProbe});
  refuses("launcher_version_value", 2, {"--version=1"});
  refuses("launcher_config_empty", 2, {"--config_file=", kProbe});
  refuses("launcher_unknown_flag", 2, {"-x", kProbe});
  refuses("launcher_cut_option", 2, {"--nproc", "2", kProbe});
  refuses("launcher_mpirun_np", 2, {"-np", "2", kProbe});
  refuses("launcher_torchrun_module", 2, {"-m", kProbe});
  refuses("launcher_mpirun_host", 2, {"--host", "a,b", kProbe});
  refuses("launcher_torchrun_numa", 2, {"--numa-binding=node", kProbe});
  refuses("launcher_help_unknown", 2, {"help", "tset"});
  refuses("launcher_no_hostfile", 2, {"--include", "a", kProbe});
  refuses("launcher_redirects_rank", 2,
          {"-n", "2", "--log_dir", "/no/such", "-r", "0:1,2:3", kProbe});
  refuses("launcher_tee_rank", 2, {"-n", "1", "--log_dir", "/no/such", "--tee=1:3", kProbe});
  refuses("launcher_prefix_name", 2, {"--log_line_prefix_template", "<${rank}/${role}> ", kProbe});
  refuses("launcher_prefix_open", 2, {"--log_line_prefix_template", "${rank", kProbe});
  refuses("launcher_unknown_command", 2, {"lunch", kProbe});
  // With commands as they might be, as the real list grows.
  CHECK(compare_error_text("launcher_unknown_word",
                           unknown_command_text("train", {"help", "launch"})) == "");
}

TEST_CASE("launcher: values of options arrive byte for byte, an empty one is no other word") {
  refuses("launcher_value_empty", 2, {"-n", "1", "--log_dir=", kProbe});
  refuses("launcher_value_empty_word", 2, {"--time_limit", "", kProbe});
  refuses("launcher_flag_value", 2, {"--cpu=x", kProbe});
  refuses("launcher_flag_empty", 2, {"--cpu=", kProbe});
  refuses("launcher_short_unknown", 2, {"-qx", kProbe});
  refuses("launcher_id_folder", 2, {"--rdzv_id", "../../x", kProbe});
  refuses("launcher_id_parent", 2, {"--rdzv_id=..", kProbe});
  refuses("launcher_env_rank", 2, {"--env", "RANK=7", kProbe});
  refuses("launcher_env_port", 2, {"--env", "MASTER_PORT=7", kProbe});
  refuses("launcher_env_token", 2, {"--env", "WEFT_TOKEN", kProbe});
  refuses("launcher_env_restarts", 2, {"--env", "TORCHELASTIC_RESTART_COUNT=7", kProbe});
  for (const std::string value : {"[${rank}]", "[a,b]", "{}", "\"x\"", " -n 3", "=", "--", "\\n"}) {
    CHECK(options_of({"--log_line_prefix_template", value, "p"}).log_line_prefix_template == value);
    CHECK(options_of({"--log_line_prefix_template=" + value, "p"}).log_line_prefix_template ==
          value);
  }
  const LaunchOptions joined = options_of({"-qn2", "--cpu", "--cpu", "--env=A=", "p", "-n", "3"});
  CHECK(joined.quiet);
  CHECK(joined.cpu);
  CHECK(joined.ranks == 2);
  CHECK(joined.environment.back() == "A=");
  CHECK(joined.command == std::vector<std::string>{"p", "-n", "3"});
  CHECK_FALSE(options_of({"--cpu=false", "p"}).cpu);
}

TEST_CASE("launcher: output that cannot be kept is said once, and is no success") {
  const auto shell = [](const std::string& arguments) {
    return run_process({"sh", "-c", "'" + kLauncher + "' " + arguments + " >/dev/full"});
  };
  const auto job = shell("-n 2 echo hi");
  CHECK(job.exit_code == 1);
  CHECK(job.err ==
        "launcher: standard output: No space left on device; output of the ranks is lost\n");
  CHECK(shell("-n 2 sh -c 'echo hi; exit 3'").exit_code == 3);
  const auto help = shell("--help");
  CHECK(help.exit_code == 1);
  CHECK(help.err == "launcher: standard output: No space left on device\n");
}

TEST_CASE("launcher: programs that cannot be run are refused before anything starts") {
  const TempDir folder;
  const std::string path = folder.path();
  refuses("launcher_not_found", 127, {"-n", "2", path + "/model"}, path);
  refuses("launcher_not_on_path", 127, {"-n", "2", "no-such-program"});
  refuses("launcher_empty_name", 127, {"-n", "2", "--", ""});
  refuses("launcher_below_a_file", 127,
          {"-n", "2", write_file(folder / "file", "", false).string() + "/model"}, path);
  refuses("launcher_not_executable", 126, {"-n", "2", write_file(folder / "data", "text", false)},
          path);
  refuses("launcher_folder", 126, {"-n", "2", path}, path);
  refuses("launcher_no_interpreter", 127,
          {"-n", "2", write_file(folder / "script", "#!/no/such/shell\n", true)}, path);
  refuses("launcher_no_format", 126, {"-n", "2", write_file(folder / "junk", "\1\2\3", true)},
          path);
}

TEST_CASE("launcher: a name without a slash is looked up on PATH") {
  const TempDir folder;
  write_file(folder / "weft-test-program", "#!/bin/sh\necho found\n", true);
  const std::string variable = "PATH=/no/such:" + folder.path().string() + ":/usr/bin:/bin";
  CHECK(launch({"-n", "1", "weft-test-program"}, {variable}).out == "found\n");
  CHECK(launch({"launch", "weft-test-program"}, {variable}).out == "found\n");
  write_file(folder / "weft-test-data", "text", false);
  CHECK(launch({"-n", "1", "weft-test-data"}, {variable}).exit_code == 126);
  // In this folder, but not on PATH: the text says how to name it.
  const auto result =
      run_process({kLauncher, "-n", "1", "weft-test-program"}, {.folder = folder.path()});
  CHECK(result.exit_code == 127);
  CHECK(result.err ==
        "launcher: weft-test-program: not on PATH; for the file in this folder write "
        "./weft-test-program\n");
}

TEST_CASE("launcher: commands are executables beside it, in a build tree and under a prefix") {
  for (const char* layout : {"libexec", "libexec/weft"}) {
    const TempDir prefix;
    std::filesystem::create_directories(prefix / "bin");
    std::filesystem::create_directories(prefix / layout);
    std::filesystem::copy(kLauncher, prefix / "bin/launcher");
    write_file(prefix / layout / "weft-report",
               "#!/bin/sh\nfor a in \"$@\"; do echo \"<$a>\"; done\nexit 5\n", true);
    const std::string program = (prefix / "bin/launcher").string();
    const auto result = run_process({program, "report", "--json", "-n", "a b"});
    CHECK(result.exit_code == 5);
    CHECK(result.out == "<--json>\n<-n>\n<a b>\n");
    CHECK(run_process({program, "help", "report"}).out == "<--help>\n");
    const auto unknown = run_process({program, "repotr"});
    CHECK(unknown.exit_code == 2);
    CHECK(unknown.err.find("did you mean 'report'?") != std::string::npos);
    CHECK(run_process({program, "--version"}).exit_code == 0);
  }
}

TEST_CASE("options: flag over environment over default") {
  const LaunchOptions plain = options_of({"p"});
  CHECK(plain.ranks == 1);
  CHECK_FALSE(plain.time_limit);
  CHECK(plain.grace == 10);
  CHECK(plain.environment.empty());
  CHECK(plain.origin("grace") == "default");
  const LaunchOptions all =
      options_of({"-n", "3", "--num_processes", "3", "--time-limit", "1.5", "--grace", "0",
                  "--collective_timeout", "60", "--join_timeout", "5", "p", "-x"});
  CHECK(all.ranks == 3);
  CHECK(*all.time_limit == 1.5);
  CHECK(all.grace == 0);
  CHECK(all.origin("grace") == "--grace");
  CHECK(all.origin("time_limit") == "--time-limit");
  CHECK(all.environment ==
        std::vector<std::string>{"WEFT_COLLECTIVE_TIMEOUT=60", "WEFT_JOIN_TIMEOUT=5"});
  CHECK(all.command == std::vector<std::string>{"p", "-x"});
  CHECK(options_of({"-n", "auto", "p"}).ranks >= 1);
  CHECK_THROWS_AS(options_of({"--grace", "nan", "p"}), LaunchError);
  CHECK_THROWS_AS(options_of({"--grace", "1e99", "p"}), LaunchError);
  CHECK_THROWS_AS(options_of({"-n", "2x", "p"}), LaunchError);
  CHECK_THROWS_AS(options_of({"-n", "", "p"}), LaunchError);
}

TEST_CASE("options: ranks that a file names may be more than a flag asks for") {
  CommandLine line = parse_command_line({"-n", "1", "p"});
  const auto from_file = [](const char* name, const char* value) {
    return Setting{
        .option = &option_named(name), .value = value, .layer = Layer::config, .spelling = name};
  };
  const auto options = resolve(line, {from_file("tee", "0:1,7:3"), from_file("log_dir", "logs")});
  CHECK(options.tee.of(7) == 3);
}

TEST_CASE("commands: what is likely meant begins with the same letter") {
  CHECK(likely_meant("num", {"nproc", "num_processes", "nuke"}) == "num_processes");
  const std::vector<std::string> names = {"config", "env", "launch"};
  CHECK(likely_meant("confgi", names) == "config");
  CHECK(likely_meant("lunch", names) == "launch");
  CHECK(likely_meant("xyz", names).empty());
  CHECK(likely_meant("", names).empty());
  CHECK(find_command("../evil", {"/usr/bin"}).empty());
  CHECK(find_command("", {"/usr/bin"}).empty());
}

TEST_CASE("cpus: the quota of control groups, both versions, parents included") {
  const TempDir root;
  const auto put = [&](const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  };
  const std::string base = root.path().string() + "/";
  CHECK_FALSE(cgroup_cpus(base));
  put("proc/self/cgroup", "0::/job/step\n");
  CHECK_FALSE(cgroup_cpus(base));
  put("sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
  CHECK_FALSE(cgroup_cpus(base));
  put("sys/fs/cgroup/job/cpu.max", "250000 100000\n");
  CHECK(cgroup_cpus(base) == 2.5);
  put("sys/fs/cgroup/cpu.max", "100000 100000\n");
  CHECK(cgroup_cpus(base) == 1.0);
  put("proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/old\n");
  put("sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/old/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cgroup_cpus(base));
  put("sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "150000\n");
  CHECK(cgroup_cpus(base) == 1.5);
  CHECK(allowed_cpus() >= 1);
  CHECK(allowed_cores() >= 1);
  CHECK(allowed_cores() <= allowed_cpus());
}
