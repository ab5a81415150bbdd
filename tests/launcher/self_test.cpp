// `launcher test`: what it finds where all is well, and that it finds faults.
#include <doctest/doctest.h>

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <weft/launcher/programs/test/drill.hpp>
#include <weft/launcher/programs/test/plan.hpp>
#include <weft/launcher/programs/test/progress.hpp>
#include <weft/launcher/programs/test/report.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::self_test;

namespace {

struct Row {
  std::string check, result, text;
};

std::vector<Row> rows_of(const std::string& table) {
  std::vector<Row> rows;
  const std::regex row(R"(^(\w+) +(PASS|FAIL|SKIP) +(?:[0-9.]+ m?s)? *(.*)$)");
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, row)) rows.push_back({match[1], match[2], match[3]});
  }
  return rows;
}

/// The one row about `check`.
Row row_of(const ProcessResult& result, const std::string& check) {
  std::vector<Row> found;
  for (const Row& row : rows_of(result.out))
    if (row.check == check) found.push_back(row);
  REQUIRE_MESSAGE(found.size() == 1, check << " in:\n" << result.out << result.err);
  return found[0];
}

ProcessResult test_with(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "test");
  return launch(arguments);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("launcher test: every check passes here, or says why it cannot run") {
  const ProcessResult result = test_with({"--check_limit", "60"});
  CHECK_MESSAGE(result.exit_code == 0, result.out << result.err);
  CHECK_MESSAGE(result.err.empty(), result.err);
  CHECK(row_of(result, "start").text == "2 ranks");
  std::vector<std::string> expected = {"start"}, skipped;
  for (const CheckName& check : check_names()) expected.push_back(check.name);
  expected.push_back(kKillDrill.name);
  std::vector<std::string> found;
  for (const Row& row : rows_of(result.out)) {
    found.push_back(row.check);
    CHECK_MESSAGE(row.result != "FAIL", row.check << ": " << row.text);
    if (row.result != "SKIP") continue;
    skipped.push_back(row.check);
    CHECK_MESSAGE(!row.text.empty(), row.check);
  }
  CHECK(found == expected);
  CHECK(skipped ==
        std::vector<std::string>{"loader_dispatch", "batch_sampler", "mixed_precision", "zero"});
  CHECK(contains(row_of(result, "bandwidth_all_reduce").text, "16 MiB"));
  CHECK(std::regex_search(row_of(result, "kill_drill").text,
                          std::regex("^rank [01] named, PeerLost after .* ms, nothing left$")));
  CHECK(std::regex_search(result.out, std::regex("\\n[0-9]+ passed, 0 failed, 4 skipped in ")));
}

TEST_CASE("launcher test: ranks as many as asked for, one and three included") {
  const ProcessResult one = test_with({"-n", "1", "--quick"});
  CHECK_MESSAGE(one.exit_code == 0, one.out << one.err);
  CHECK(row_of(one, "start").text == "1 rank");
  CHECK(row_of(one, "pairs").result == "SKIP");
  const ProcessResult three =
      test_with({"--num-processes=3", "--quick", "--check=split*,epochs,training*,send_recv",
                 "--check-limit", "60"});
  CHECK_MESSAGE(three.exit_code == 0, three.out << three.err);
  CHECK(rows_of(three.out).size() == 7);
}

TEST_CASE("launcher test: the configuration says how many ranks, and what is wrong with it") {
  const TempDir home;
  const std::string path = home / "default_config.yaml",
                    variable = "WEFT_HOME=" + home.path().string();
  std::ofstream(path) << "distributed_type: MULTI_CPU\nnum_processes: 3\n";
  const ProcessResult by_default = launch({"test", "--quick", "--check", "state"}, {variable});
  CHECK_MESSAGE(by_default.exit_code == 0, by_default.err);
  CHECK(row_of(by_default, "start").text == "3 ranks");
  std::filesystem::rename(path, home / "other.yaml");
  const std::string other = "--config_file=" + (home / "other.yaml").string();
  CHECK(row_of(test_with({"--quick", "--check", "state", other}), "start").text == "3 ranks");
  CHECK(row_of(test_with({"--quick", "--check", "state", other, "-n", "1"}), "start").text ==
        "1 rank");
  std::ofstream(home / "other.yaml") << "distributed_type: MULTI_CPU\nnum_procs: 3\n";
  const ProcessResult wrong = test_with({other});
  CHECK(wrong.exit_code == 2);
  CHECK(contains(wrong.err, "other.yaml:2:1: "));
  CHECK_FALSE(contains(wrong.err, "launcher: "));
  std::ofstream(home / "other.yaml") << "distributed_type: DEEPSPEED\nzero_stage: 2\n";
  const ProcessResult later = test_with({other});
  CHECK(later.exit_code == 2);
  CHECK(contains(later.err, "zero_stage"));
}

TEST_CASE("launcher test: a wrong result, a crash and a rank that leaves each fail one check") {
  for (const std::string fault : {"wrong", "crash", "leave"}) {
    CAPTURE(fault);
    const ProcessResult result =
        test_with({"--check", "state,barrier,broadcast", "--break", "barrier=" + fault, "--quick"});
    CHECK(result.exit_code == 1);
    CHECK(row_of(result, "state").result == "PASS");
    CHECK(row_of(result, "broadcast").result == "PASS");
    const Row row = row_of(result, "barrier");
    CHECK(row.result == "FAIL");
    if (fault == "wrong") CHECK(row.text == "rank 1: broken on purpose");
    if (fault == "crash") CHECK(contains(row.text, "killed by SIGSEGV"));
    if (fault == "leave") CHECK(contains(row.text, "no result of rank 1"));
    CHECK(contains(result.out, "3 passed, 1 failed, 0 skipped"));
    if (fault == "crash") CHECK(contains(result.err, "\nrank 1 (pid "));
  }
}

TEST_CASE("launcher test: a check that hangs fails by itself, and the rest goes on") {
  // Found by the ranks: the others wait for the one that hangs.
  const ProcessResult two =
      test_with({"--check", "barrier,broadcast", "--break", "barrier=hang", "--check_limit", "5"});
  CHECK(two.exit_code == 1);
  CHECK(row_of(two, "barrier").result == "FAIL");
  CHECK(contains(row_of(two, "barrier").text, "no result of rank 1; barrier #"));
  CHECK(row_of(two, "broadcast").result == "PASS");
  // Found by the clock: no other rank is there to notice.
  const ProcessResult one = test_with(
      {"-n", "1", "--check", "barrier,broadcast", "--break", "barrier=hang", "--check_limit", "3"});
  CHECK(one.exit_code == 1);
  CHECK(contains(row_of(one, "barrier").text, "no end after 3 s: no result of rank 0"));
  CHECK(row_of(one, "broadcast").result == "PASS");
}

TEST_CASE("launcher test: a signal ends it and its ranks") {
  Launched launched({"test", "-n", "2", "--check", "state,barrier", "--break", "barrier=hang",
                     "--check_limit", "600"});
  launched.wait_for("state ");
  launched.signal(SIGTERM);
  const ProcessResult result = launched.finish();
  CHECK(result.exit_code == 128 + SIGTERM);
  CHECK(contains(result.err, "launcher test: ended by "));
}

TEST_CASE("launcher test: mistakes on the command line are refused") {
  const auto refuses = [](const std::string& name, const std::vector<std::string>& arguments) {
    CAPTURE(name);
    const ProcessResult result = test_with(arguments);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    REQUIRE(result.err.ends_with("\n"));
    const std::string text = result.err.substr(0, result.err.find(';'));
    CHECK(compare_error_text(name, text.ends_with("\n") ? text.substr(0, text.size() - 1) : text) ==
          "");
  };
  refuses("self_test_program", {"-n", "2", "./model"});
  refuses("self_test_no_check", {"--check", "all_redcue"});
  refuses("self_test_break", {"--break", "barrier=slow"});
  refuses("self_test_dry_run", {"--dry-run"});
  refuses("self_test_limit", {"--check_limit", "0"});
  refuses("self_test_value_missing", {"--check"});
  refuses("self_test_unknown_option", {"--nproc", "2"});
}

TEST_CASE("launcher test: help and the list of checks") {
  const ProcessResult help = launch({"help", "test"});
  CHECK(help.exit_code == 0);
  CHECK(contains(help.out, "launcher test --config_file"));
  CHECK(test_with({"--help"}).out == help.out);
  const ProcessResult list = test_with({"--list"});
  CHECK(list.exit_code == 0);
  for (const CheckName& check : check_names()) CHECK(contains(list.out, check.name));
}

TEST_CASE("self test: a report survives the way through the launcher") {
  const Report report{3, Event::end, "all_reduce", Verdict::fail, 1.5, "rank 3:\ta\nb"};
  const auto back = parse("\033[36m[3] \033[0m" + format(report));
  REQUIRE(back.has_value());
  CHECK(back->rank == 3);
  CHECK(back->event == Event::end);
  CHECK(back->check == "all_reduce");
  CHECK(back->verdict == Verdict::fail);
  CHECK(back->seconds == 1.5);
  CHECK(back->text == "rank 3: a b");
  CHECK(format({.text = std::string(5000, 'x')}).size() < 2100);
  for (const char* line : {"", "[0] loss 0.3", "@weft-test\t1\t2", "@weft-test\tx\t0\t\t0\t0\t",
                           "@weft-test\t0\t9\tc\t0\t0\t", "@weft-test\t0\t1\tc\t7\t0\t",
                           "@weft-test\t0\t1\tc\t0\tsoon\t"})
    CHECK_FALSE(parse(line).has_value());
}

TEST_CASE(
    "self test: a check is over when all ranks have ended it, and a cause goes before a loss") {
  Progress progress;
  progress.take({0, Event::hello, "", Verdict::pass, 0, "2 2 11 host job"});
  CHECK_FALSE(progress.started());
  progress.take({1, Event::hello, "", Verdict::pass, 0, "2 2 12 host job"});
  REQUIRE(progress.started());
  CHECK(progress.ranks().at(1).pid == 12);
  progress.take({0, Event::begin, "barrier"});
  progress.take({1, Event::begin, "barrier"});
  progress.take({0, Event::end, "barrier", Verdict::lost, 2, "timed out"});
  CHECK_FALSE(progress.next_finished().has_value());
  CHECK(progress.unfinished("barrier").text == "no result of rank 1; timed out");
  CHECK(progress.unfinished("scatter").text == "not begun");
  progress.take({1, Event::end, "barrier", Verdict::fail, 1, "off by one"});
  const auto finished = progress.next_finished();
  REQUIRE(finished.has_value());
  CHECK(finished->verdict == Verdict::fail);
  CHECK(finished->text == "off by one");
  CHECK(finished->seconds == 2);
  CHECK_FALSE(progress.next_finished().has_value());
  // Rank 1 dies behind a check, before rank 0 has said that it is over: rank 1 spoke for both.
  progress.take({0, Event::begin, "gather"});
  progress.take({1, Event::begin, "gather"});
  progress.take({1, Event::agreed, "gather", Verdict::pass, 1, "40 cases"});
  CHECK_FALSE(progress.next_finished().has_value());
  REQUIRE(progress.next_finished(true).has_value());
  progress.take({1, Event::begin, "scatter"});
  CHECK_FALSE(progress.next_finished(true).has_value());
}

TEST_CASE("self test: the kill drill judges launcher and survivors") {
  const auto drill = [](const std::string& named, int code, bool survivor, double delay = 0.01) {
    Drill one;
    const auto say = [&](int rank, Event event, const std::string& text) {
      one.take(format({rank, event, "kill_drill", Verdict::pass, 0, text}), false);
    };
    say(0, Event::hello, "2 2 999999998 host no-such-job");
    say(1, Event::hello, "2 2 999999999 host no-such-job");
    say(0, Event::drill, "culprit 1");
    say(1, Event::drill, "kill 1000000000");
    if (survivor)
      say(0, Event::drill,
          "lost " + std::to_string(1000000000 + static_cast<int64_t>(delay * 1e9)));
    one.take(named, true);
    return one.judge(true, code, 0.1);
  };
  const std::string right = "rank 1 (pid 999999999) killed by SIGKILL";
  CHECK(drill(right, 137, true).text == "rank 1 named, PeerLost after 10.0 ms, nothing left");
  CHECK(drill(right, 137, true).verdict == Verdict::pass);
  for (const Finished& bad :
       {drill("rank 0 (pid 999999998) killed by SIGKILL", 137, true),
        drill("rank 1 (pid 999999999) exited with 9", 137, true), drill(right, 1, true),
        drill(right, 137, false), drill(right, 137, true, 30)}) {
    CHECK(bad.verdict == Verdict::fail);
    CHECK_FALSE(bad.text.empty());
  }
  CHECK(Drill().judge(false, 0, 1).text == "the job did not end");
  CHECK(contains(Drill().judge(true, 0, 1).text, "did not start"));
}
