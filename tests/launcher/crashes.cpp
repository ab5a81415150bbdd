// What is said about a rank that crashed, without a line in the program.
#include <doctest/doctest.h>

#include <regex>
#include <string>
#include <vector>

#include <weft/launcher/symbols.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/skip.hpp>

using namespace weft::test;

namespace {

const std::string kTrainee = WEFT_BUILD_ROOT "/tests/launcher/trainee";

std::string first_line(const ProcessResult& result) {
  const auto own = own_lines(result.err);
  return own.empty() ? "" : std::regex_replace(own[0], std::regex("pid [0-9]+"), "pid N");
}

bool has_line(const ProcessResult& result, const std::string& pattern) {
  const std::regex regex("launcher: " + pattern);
  for (const std::string& line : own_lines(result.err))
    if (std::regex_match(line, regex)) return true;
  return false;
}

}  // namespace

TEST_CASE("crash record: a fault's cause and stack, what collective came before it") {
  struct Row {
    const char* action;
    const char* name;
    int code;
    const char* cause;
    const char* function;
  };
  const Row rows[] = {
      {"segv", "SIGSEGV", 139,
       R"(SIGSEGV at address 0x0: no memory is mapped there \(a null pointer\))", "write_through"},
      {"call_null", "SIGSEGV", 139,
       R"(SIGSEGV at address 0x0: no memory is mapped there \(a null.*)", "call_null"},
      {"overflow", "SIGSEGV", 139, R"(SIGSEGV at address 0x[0-9a-f]+: .* \(the stack is full.*)",
       "recurse"},
      {"fpe", "SIGFPE", 136, "SIGFPE at address 0x[0-9a-f]+: integer division by zero",
       "divide_by_zero"},
      {"ill", "SIGILL", 132, "SIGILL at address 0x[0-9a-f]+: an instruction.*", ""},
      {"bus", "SIGBUS", 135, "SIGBUS at address 0x[0-9a-f]+: beyond the end of a mapped file.*",
       "touch_beyond_the_file"},
      {"abort", "SIGABRT", 134, R"(SIGABRT raised by abort\(\))", ""},
  };
  for (const Row& row : rows) {
    CAPTURE(row.action);
    const auto result =
        launch({"-n", "2", kTrainee, "join", "reduce=3", "only=1", row.action, "all", "forever"});
    CAPTURE(result.err);
    CHECK(result.exit_code == row.code);
    CHECK(first_line(result) == "rank 1 (pid N) killed by " + std::string(row.name));
    CHECK(has_line(result, std::string(row.cause) + R"(, in thread 'trainee' \([0-9]+\))"));
    if (row.function[0] != '\0')
      CHECK(has_line(result,
                     "  #[0-9]+ +.*" + std::string(row.function) + R"(.* \(trainee\+0x.*\))"));
    // Behind a jump to nowhere the stack cannot be followed further than the caller, and of a full
    // one the innermost frames are kept.
    const bool cut =
        row.action == std::string("call_null") || row.action == std::string("overflow");
    CHECK(has_line(result, "  #[0-9]+ +main.*") == !cut);
    CHECK(has_line(result, R"(in no collective; last completed all_reduce #[0-9]+ \(f32 \[2, 3\], )"
                           R"(sum\) of group 'world')"));
  }
}

TEST_CASE("crash record: the collective that the rank was in") {
  const auto result = launch({"-n", "2", "--collective_timeout", "1", "--grace", "0", kTrainee,
                              "join", "reduce=2", "only=1", "absent", "all", "reduce=1"});
  CAPTURE(result.err);
  CHECK(result.exit_code == 134);
  CHECK(first_line(result) == "rank 0 (pid N) killed by SIGABRT");
  CHECK(has_line(result,
                 R"(in all_reduce #4 \(f32 \[2, 3\], sum\) of group 'world'; last completed #3)"));
  CHECK(
      has_line(result, R"(uncaught weft::TimeoutError: all_reduce #4 \(f32 \[2, 3\], sum\): .*)"));
}

TEST_CASE("crash record: an uncaught exception's type and text") {
  const auto thrown = launch({"-n", "2", kTrainee, "only=0", "throw"});
  CAPTURE(thrown.err);
  CHECK(thrown.exit_code == 134);
  CHECK(first_line(thrown) == "rank 0 (pid N) killed by SIGABRT");
  CHECK(has_line(thrown, "uncaught std::runtime_error: the loss is NaN"));
  CHECK(has_line(thrown, R"(  #[0-9]+ +.*::run\(.*)"));
  CHECK(thrown.err.find("terminate called after throwing") != std::string::npos);
  const auto number = launch({"-n", "2", kTrainee, "only=0", "throw_int"});
  CHECK(has_line(number, "uncaught int"));
  CHECK(first_line(launch({"-n", "2", kTrainee, "only=1", "terminate"})) ==
        "rank 1 (pid N) killed by SIGABRT");
}

TEST_CASE("crash record: threads, children by fork, the program's own handlers") {
  const auto thread = launch({kTrainee, "thread_segv"});
  CHECK(thread.exit_code == 139);
  CHECK(has_line(thread, R"(SIGSEGV at address 0x0: .*, in thread 'second thread' \([0-9]+\))"));

  const auto child = launch({kTrainee, "fork_segv", "exit=4"});
  CHECK(child.out == "child ended by signal 11\n");
  CHECK(child.exit_code == 4);
  CHECK_FALSE(has_line(child, "SIGSEGV.*"));

  const auto own = launch({kTrainee, "own_handler", "segv"});
  CHECK(own.exit_code == 55);
  CHECK_FALSE(has_line(own, "SIGSEGV.*"));
}

TEST_CASE("crash record: many threads that fault at once leave one record, which is whole") {
  for (int round = 0; round < 5; ++round) {
    const auto result = launch({kTrainee, "many_segv"});
    CAPTURE(result.err);
    CHECK(result.exit_code == 139);
    CHECK(count_of(result.err, "SIGSEGV at address 0x0") == 1);
    CHECK(has_line(result, R"(  #1 .*write_to_null\(\).*)"));
  }
}

TEST_CASE("crash record: a stack that is destroyed costs the stack alone") {
  const auto result = launch({kTrainee, "smash"});
  CAPTURE(result.err);
  CHECK(result.exit_code == 139);
  CHECK(first_line(result) == "rank 0 (pid N) killed by SIGSEGV");
  CHECK(has_line(result, "SIGSEGV.*, in thread 'trainee' .*"));
}

TEST_CASE("crash record: a program that a script starts, and who has not libweft") {
  const auto script = launch({"-n", "1", "sh", "-c", "'" + kTrainee + "' segv; exit 9"});
  CHECK(script.exit_code == 9);
  CHECK(has_line(script, "what follows is of process [0-9]+, which the rank started"));
  CHECK(has_line(script, "SIGSEGV at address 0x0: .*"));
  const auto plain = launch({kProbe, "signal=SEGV"});
  CHECK(plain.exit_code == 139);
  CHECK(own_lines(plain.err).size() == 1);
}

TEST_CASE("crash record: what a rank starts does not get the descriptor") {
  const auto result = launch({kTrainee, "shell=test ! -e /proc/self/fd/$WEFT_CRASH_FD"});
  CHECK(result.out == "0\n");
}

TEST_CASE("crash record: descriptors that are none, and a closed one, change nothing") {
  for (const char* text : {"99", "0", "x", "-1"}) {
    const auto result = run_process(
        {kTrainee, "exit=3"}, {.env = {std::string("WEFT_CRASH_FD=") + text, "LOCAL_RANK=0"}});
    CHECK(result.exit_code == 3);
  }
  if (!on_path("bash")) WEFT_SKIP("bash is not installed");
  const auto closed = launch(
      {"-n", "1", "bash", "-c", "eval \"exec $WEFT_CRASH_FD>&-\"; exec '" + kTrainee + "' segv"});
  CHECK(closed.exit_code == 139);
  CHECK(own_lines(closed.err).size() == 1);
}

TEST_CASE("symbols: of this binary, of a file that is none") {
  CHECK(weft::launcher::symbol_at("/dev/null", 0) == "");
  CHECK(weft::launcher::symbol_at("/nowhere", 4096) == "");
  CHECK(weft::launcher::symbol_at(WEFT_SOURCE_ROOT "/README.md", 10) == "");
  CHECK(weft::launcher::symbol_at(kTrainee, uint64_t{1} << 60) == "");
  CHECK(weft::launcher::demangled("St13runtime_error") == "std::runtime_error");
  CHECK(weft::launcher::demangled("N4weft2v08PeerLostE") == "weft::PeerLost");
  CHECK(weft::launcher::demangled("not mangled") == "not mangled");
}
