// The ranks' output: files, filters, prefixes, colours, progress bars, slow readers.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <weft/launcher/output.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

std::string content(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

/// The folder of the only job and attempt under `folder`.
std::filesystem::path attempt_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> jobs;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) jobs.push_back(entry);
  REQUIRE(jobs.size() == 1);
  return jobs[0] / "attempt_0";
}

/// Waits until a file of that name under `folder` has `text`; fails after 20 s.
void wait_for_log(const std::filesystem::path& folder, const std::string& name,
                  const std::string& text) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < deadline) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
      if (entry.path().filename() == name && content(entry.path()).find(text) != std::string::npos)
        return;
    ::poll(nullptr, 0, 10);
  }
  FAIL("no '" << text << "' in a file " << name << " under " << folder.string());
}

/// What a terminal shows of the pieces: a stream into a pseudo-terminal.
std::string on_terminal(const std::vector<std::string>& pieces) {
  int master = -1, slave = -1;
  REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
  int ends[2];
  REQUIRE(::pipe2(ends, O_NONBLOCK) == 0);
  Sink sink(slave);
  CHECK(sink.terminal());
  LineStream stream(Fd{ends[0]}, {.sink = &sink, .prefix = "[7] "});
  for (const std::string& piece : pieces) {
    REQUIRE(::write(ends[1], piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()));
    stream.read_some(1 << 20);
    stream.flush_partial(false);
  }
  stream.flush_partial(true);
  sink.flush();
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  pollfd entry{master, POLLIN, 0};
  while (::poll(&entry, 1, 0) > 0) {
    const ssize_t got = ::read(master, buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  ::close(slave);
  ::close(master);
  return text;
}

}  // namespace

TEST_CASE("logs: a folder alone keeps everything and takes nothing from the console") {
  const TempDir folder;
  const auto result = launch({"-n", "2", "--log_dir", folder.path(), kProbe, "out=to stdout",
                              "err=to stderr", "part=no end"});
  CHECK(result.exit_code == 0);
  CHECK(count_of(result.out, "] to stdout\n") == 2);
  CHECK(count_of(result.err, "] to stderr\n") == 2);
  const auto attempt = attempt_in(folder.path());
  for (const char* rank : {"rank_0", "rank_1"}) {
    CHECK(content(attempt / rank / "stdout.log") == "to stdout\nno end");
    CHECK(content(attempt / rank / "stderr.log") == "to stderr\n");
  }
}

TEST_CASE("logs: redirects take from the console, tee does not, both by rank and stream") {
  const TempDir folder;
  const auto result = launch({"-n", "3", "--log_dir", folder.path(), "-r", "0:1,1:3", "-t", "2:2",
                              kProbe, "out=words", "err=cries"});
  CHECK(result.exit_code == 0);
  CHECK(result.out == "[2] words\n");
  CHECK(result.err.find("[0] cries\n") != std::string::npos);
  CHECK(result.err.find("[2] cries\n") != std::string::npos);
  CHECK(result.err.find("[1]") == std::string::npos);
  const auto attempt = attempt_in(folder.path());
  CHECK(content(attempt / "rank_0" / "stdout.log") == "words\n");
  CHECK_FALSE(std::filesystem::exists(attempt / "rank_0" / "stderr.log"));
  CHECK(content(attempt / "rank_1" / "stderr.log") == "cries\n");
  CHECK(content(attempt / "rank_2" / "stderr.log") == "cries\n");
  CHECK_FALSE(std::filesystem::exists(attempt / "rank_2" / "stdout.log"));
}

TEST_CASE("logs: a failed rank's last lines are said though they were redirected") {
  const TempDir folder;
  const auto result = launch({"-n", "2", "--log_dir", folder.path(), "-r", "3", kProbe, "only=1",
                              "err=what went wrong", "exit=7", "all", "forever"});
  CHECK(result.exit_code == 7);
  const auto own = own_lines(result.err);
  REQUIRE(own.size() >= 2);
  CHECK(own.back() == "  what went wrong");
  CHECK(own.front().find("rank 1 (pid ") == 0);
}

TEST_CASE("logs: one rank alone is unprefixed, and in the file") {
  const TempDir folder;
  const auto result =
      launch({"-n", "1", "--log_dir", folder.path(), kProbe, "out=alone", "err=silence"});
  CHECK(result.out == "alone\n");
  CHECK(content(attempt_in(folder.path()) / "rank_0" / "stdout.log") == "alone\n");
}

TEST_CASE("logs: a folder that cannot be made is an error before anything starts") {
  const auto result = launch({"-n", "2", "--log_dir", "/dev/null/logs", kProbe, "out=ran"});
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(result.err.find("launcher: --log_dir: cannot make the folder /dev/null/logs/") == 0);
}

TEST_CASE("logs: a full disk is said at the end and is no success, the console goes on") {
  const TempDir folder;
  const auto result =
      run_process({"unshare", "-rm", "sh", "-c",
                   "mount -t tmpfs -o size=64k none '" + folder.path().string() + "' && exec '" +
                       kLauncher + "' -n 2 --log_dir '" + folder.path().string() + "' '" + kProbe +
                       "' long=200000 out=after"});
  if (result.exit_code != 0 && result.err.find("unshare") != std::string::npos)
    WEFT_SKIP("no mount namespaces: " + result.err);
  CHECK(result.exit_code == 1);
  CHECK(count_of(result.out, "] after\n") == 2);
  CHECK(count_of(result.err, "stdout.log: No space left on device; the file is not complete") == 2);
}

TEST_CASE("output: a filter shows some ranks alone, a template is the prefix") {
  const auto some = launch({"-n", "4", "--local_ranks_filter", "1,3", kProbe, "out=words"});
  CHECK(count_of(some.out, "words") == 2);
  CHECK(some.out.find("[1] words\n") != std::string::npos);
  CHECK(some.out.find("[3] words\n") != std::string::npos);
  const auto named = launch(
      {"-n", "2", "--log_line_prefix_template", "<${local_rank}/${rank}> ", kProbe, "out=words"});
  CHECK(named.out.find("<1/1> words\n") != std::string::npos);
  const auto bare = launch({"-n", "2", "--log_line_prefix_template=", kProbe, "out=words"});
  CHECK(bare.out == "words\nwords\n");
  CHECK(expand_prefix("${role_name} ${job_id} ${nothing} $", {3, 1, 2}, "j") ==
        "rank j ${nothing} $");
}

TEST_CASE("output: colours where they are wanted") {
  CHECK(count_of(launch({"-n", "2", "--color", "always", kProbe, "out=x"}).out, "\x1b[0mx\n") == 2);
  CHECK(count_of(launch({"-n", "2", kProbe, "out=x"}).out, "\x1b") == 0);
  CHECK(is_coloured(Color::always, false));
  CHECK_FALSE(is_coloured(Color::never, true));
  CHECK_FALSE(is_coloured(Color::automatic, false));
  const auto auto_with = [](const char* assignment) {
    return run_process(
               {"script", "-qec", "'" + kLauncher + "' -n 2 '" + kProbe + "' out=x", "/dev/null"},
               {.env = {"TERM=xterm", "NO_COLOR", assignment}})
        .out;
  };
  if (!on_path("script")) WEFT_SKIP("script is not installed");
  CHECK(count_of(auto_with("A=b"), "\x1b[0mx") == 2);
  CHECK(count_of(auto_with("NO_COLOR=1"), "\x1b[0mx") == 0);
  CHECK(count_of(auto_with("TERM=dumb"), "\x1b[0mx") == 0);
}

TEST_CASE("output: of a progress bar the last drawing counts") {
  CHECK(last_drawing("plain") == "plain");
  CHECK(last_drawing("1%\r2%") == "2%");
  CHECK(last_drawing("1%\r2%\r") == "2%\r");
  CHECK(last_drawing("\r\r") == "\r\r");
  CHECK(last_drawing("") == "");
  const auto piped =
      launch({"-n", "2", kProbe, "part=\r 10%", "part=\r 20%", "part=\r100%", "out= done"});
  CHECK(count_of(piped.out, "] 100% done\n") == 2);
  CHECK(count_of(piped.out, "%") == 2);
  // On a terminal each drawing takes the place of the one before.
  CHECK(on_terminal({"\r10%", "\r20%", "\r30%\n", "next\n"}) ==
        "[7] 10%\r[7] 20%\x1b[K\r[7] 30%\x1b[K\r\n[7] next\r\n");
  // Lines that merely end so, as on other systems, stay what they are.
  CHECK(count_of(launch({"-n", "2", kProbe, "out=dos\r"}).out, "] dos\r\n") == 2);
}

TEST_CASE("output: a slow reader loses counted lines where a file has them all") {
  const TempDir folder;
  Launched job(
      {"-n", "1", "--log_dir", folder.path(), kProbe, "lines=300000", "err=written", "forever"});
  // The rank gets to its end though nobody reads: its lines are in the file.
  wait_for_log(folder.path(), "stderr.log", "written\n");
  job.signal(SIGTERM);
  const auto result = job.finish();
  const auto all = content(attempt_in(folder.path()) / "rank_0" / "stdout.log");
  CHECK(std::count(all.begin(), all.end(), '\n') == 300'000);
  const auto shown = std::count(result.out.begin(), result.out.end(), '\n');
  CHECK(shown < 300'000);
  size_t left_out = 0;
  const size_t at = result.out.find("(");
  REQUIRE(at != std::string::npos);
  left_out = std::stoul(result.out.substr(at + 1));
  CHECK(result.out.find(" lines left out here, as the reader is slow; all are in " +
                        (attempt_in(folder.path()) / "rank_0" / "stdout.log").string() + ")") !=
        std::string::npos);
  CHECK(static_cast<size_t>(shown) - 1 + left_out == 300'000);
}
