// The ranks' output on its way through the launcher.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <weft/launcher/relay.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/launcher/pseudo_terminal.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

/// Everything that arrives at the other end of a sink, after `use`.
std::string through_sink(const std::function<void(Sink&)>& use) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  {
    Sink sink(ends[1]);
    use(sink);
    sink.flush();
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  ::close(ends[0]);
  return text;
}

/// What a stream makes of the pieces, the last of which ends it.
std::string through_stream(const std::vector<std::string>& pieces, bool flush_between = false) {
  return through_sink([&](Sink& sink) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_NONBLOCK) == 0);
    LineStream stream(Fd{ends[0]}, {.sink = &sink, .prefix = "[7] ", .tail_lines = 2});
    for (const std::string& piece : pieces) {
      REQUIRE(::write(ends[1], piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()));
      CHECK(stream.read_some(1 << 20));
      if (flush_between) stream.flush_partial(false);
    }
    ::close(ends[1]);
    CHECK_FALSE(stream.read_some(1 << 20));
    stream.flush_partial(true);
  });
}

}  // namespace

TEST_CASE("launcher: lines carry their rank, on the stream they came from") {
  const auto result = launch({"-n", "2", kProbe, "out=to stdout", "err=to stderr"});
  CHECK(result.exit_code == 0);
  CHECK((result.out == "[0] to stdout\n[1] to stdout\n" ||
         result.out == "[1] to stdout\n[0] to stdout\n"));
  CHECK((result.err == "[0] to stderr\n[1] to stderr\n" ||
         result.err == "[1] to stderr\n[0] to stderr\n"));
}

TEST_CASE("launcher: one rank alone has the launcher's own streams, without a prefix") {
  const auto result = launch({"-n", "1", kProbe, "out=plain", "err=plain too"});
  CHECK(result.out == "plain\n");
  CHECK(result.err == "plain too\n");
}

TEST_CASE("launcher: lines of many ranks arrive whole, long ones too") {
  std::vector<std::string> arguments = {"-n", "4", kProbe};
  for (int i = 0; i < 50; ++i) {
    arguments.push_back("long=" + std::to_string(1 + i * 2000));
    arguments.push_back("err=short");
  }
  const auto result = launch(arguments);
  CHECK(result.exit_code == 0);
  std::istringstream lines(result.out);
  const std::regex whole("\\[[0-3]\\] x+");
  int count = 0;
  size_t bytes = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CHECK(line.size() > 4);
    CHECK(line.substr(4).find_first_not_of('x') == std::string::npos);
    bytes += line.size() - 4;
  }
  CHECK(count == 200);
  CHECK(bytes == 4 * (50 + 2000 * (49 * 50 / 2)));
  CHECK(count_of(result.err, "] short\n") == 200);
}

TEST_CASE("launcher: a line of 10 MB passes") {
  const auto result = launch({"-n", "2", kProbe, "only=1", "long=10000000"});
  CHECK(result.exit_code == 0);
  CHECK(result.out == "[1] " + std::string(10'000'000, 'x') + "\n");
}

TEST_CASE("launcher: an unfinished line shows after a moment, and ends with its rank") {
  Launched job({"-n", "2", kProbe, "only=0", "part=loss", "input", "part=less"});
  job.wait_for("[0] loss");
  CHECK(job.out() == "[0] loss");
  const auto result = job.finish();
  CHECK(result.out == "[0] lossinput of 0 bytes\n[0] less\n");
}

TEST_CASE("launcher: rank 0 has the launcher's input, the others an empty one") {
  const auto result = run_process({kLauncher, "-n", "3", kProbe, "input"}, {.input = "12345"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("[0] input of 5 bytes\n") != std::string::npos);
  CHECK(count_of(result.out, "input of 0 bytes\n") == 2);
}

TEST_CASE("launcher: a rank that closes its outputs is watched on") {
  const auto result = launch({"-n", "2", kProbe, "out=before", "close=1", "close=2", "only=1",
                              "get=ready", "exit=8", "all", "set=ready", "forever"});
  CHECK(result.exit_code == 8);
  CHECK(count_of(result.out, "before") == 2);
  CHECK(own_lines(result.err).at(0).find("rank 1 (pid ") == 0);
}

TEST_CASE("launcher: a reader that stops reading does not stop the watch") {
  Launched job({"-n", "2", kProbe, "only=0", "out=start", "long=20000000", "all", "get=rank_exit/0",
                "forever"});
  // Nobody reads: 20 MB wait in the launcher, the pipes and rank 0. Still it passes signals on.
  job.wait_for("start");
  job.signal(SIGTERM);
  const auto result = job.finish();
  CHECK(result.exit_code == 143);
}

TEST_CASE("launcher: a reader that goes away does not end the job") {
  Launched job({"-n", "2", kProbe, "out=first", "input", "out=second", "err=done"});
  job.wait_for("first", 2);
  job.close_output();
  const auto result = job.finish();
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.err, "done") == 2);
}

TEST_CASE("launcher: whoever watches is told that nobody reads the output") {
  PseudoTerminal terminal({"/bin/sh", "-c",
                           "'" + kLauncher +
                               "' -n 2 --color never sh -c "
                               "'while echo word; do sleep 0.02; done' | head -n 1"},
                          {});
  terminal.wait_for("] word\r\n");
  terminal.wait_for(
      "launcher: nobody reads standard output any more; the job goes on without it\r\n");
  terminal.send("\x03");
  terminal.wait_for("launcher: SIGINT passed on to 2 ranks");
  CHECK(terminal.finish() == 130);
}

TEST_CASE("launcher: stdout and stderr in one file keep whole lines") {
  const TempDir folder;
  const std::string file = folder / "log";
  const auto result = run_process({"sh", "-c",
                                   "'" + kLauncher + "' -n 2 '" + kProbe +
                                       "' out=one err=two out=three exit=3 >" + file + " 2>&1"});
  CHECK(result.exit_code == 3);
  std::ifstream log(file);
  const std::string text((std::istreambuf_iterator<char>(log)), std::istreambuf_iterator<char>());
  for (const char* word : {"one", "two", "three"})
    CHECK(count_of(text, std::string("] ") + word + "\n") >= 1);
  CHECK(count_of(text, ") exited with 3\n") >= 1);
}

TEST_CASE("launcher: closed standard streams are no trouble") {
  const auto result = run_process(
      {"sh", "-c", "'" + kLauncher + "' -n 2 '" + kProbe + "' out=x err=y <&- >&- 2>&-"});
  CHECK(result.exit_code == 0);
}

TEST_CASE("relay: lines are kept whole, bytes are kept") {
  CHECK(through_stream({"one\ntwo\n"}) == "[7] one\n[7] two\n");
  CHECK(through_stream({"on", "e\ntw", "o"}) == "[7] one\n[7] two\n");
  CHECK(through_stream({"\n\n"}) == "[7] \n[7] \n");
  CHECK(through_stream({}) == "");
  CHECK(through_stream({std::string("a\0b\xff\r\n", 6)}) == std::string("[7] a\0b\xff\r\n", 10));
  CHECK(through_stream({"on", "e\ntw", "o"}, true) == "[7] one\n[7] two\n");
}

TEST_CASE("relay: another owner's line ends an unfinished one, which then goes on anew") {
  const int a = 0, b = 0;
  CHECK(through_sink([&](Sink& sink) {
          sink.write(&a, "[a] ", "loss 1");
          sink.write(&b, "[b] ", "hello\n");
          sink.write(&a, "[a] ", ".25\n");
          sink.write(&a, "[a] ", "un");
          sink.write(&a, "[a] ", "done");
          sink.finish_line(&b);
          sink.finish_line(&a);
        }) == "[a] loss 1\n[b] hello\n[a] .25\n[a] undone\n");
}

TEST_CASE("relay: an unfinished line asks to be flushed, the tail keeps the last lines") {
  through_sink([&](Sink& sink) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_NONBLOCK) == 0);
    LineStream stream(Fd{ends[0]}, {.sink = &sink, .tail_lines = 2});
    CHECK_FALSE(stream.partial_deadline());
    const std::string text = "1\n2\n3\nrest";
    REQUIRE(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    const TimePoint before = Clock::now();
    stream.read_some(1 << 20);
    REQUIRE(stream.partial_deadline());
    CHECK(*stream.partial_deadline() >= before + std::chrono::milliseconds(200));
    CHECK(*stream.partial_deadline() <= Clock::now() + std::chrono::milliseconds(200));
    stream.flush_partial(false);
    CHECK_FALSE(stream.partial_deadline());
    CHECK(stream.tail() == std::deque<std::string>{"2", "3"});
    ::close(ends[1]);
  });
}

TEST_CASE("relay: a sink whose reader is slow keeps the rest, one without a reader drops it") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  Sink sink(ends[1]);
  const int owner = 0;
  sink.write(&owner, "", std::string(100'000, 'x') + "\n");
  sink.flush();  // returns although nobody reads
  CHECK(sink.backlog() >= 90'000);
  CHECK_FALSE(sink.closed());
  ::close(ends[0]);
  sink.flush();
  CHECK(sink.closed());
  CHECK(sink.backlog() == 0);
  ::close(ends[1]);
}
