// Completions, in the shells themselves: what stands on the terminal after the tab key.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <weft/launcher/commands.hpp>
#include <weft/launcher/option_table.hpp>
#include <weft/launcher/programs/completion/scripts.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// A shell on a terminal of its own.
class Shell {
 public:
  Shell(const std::vector<std::string>& argv, const std::string& folder) {
    winsize size{50, 200, 0, 0};
    pid_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      for (const char* variable : {"PS1=> ", "TERM=dumb", "HISTFILE=/dev/null"})
        ::putenv(const_cast<char*>(variable));
      if (::chdir(folder.c_str()) != 0) ::_exit(126);
      std::vector<char*> pointers;
      for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
      pointers.push_back(nullptr);
      ::execvp(pointers[0], pointers.data());
      ::_exit(127);
    }
  }
  ~Shell() {
    ::close(terminal_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Shell(const Shell&) = delete;
  Shell& operator=(const Shell&) = delete;

  void type(const std::string& keys) {
    seen_.clear();
    REQUIRE(::write(terminal_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  }

  /// What was written, the cursor's steps back carried out.
  std::string line() const {
    std::string text;
    for (const char c : seen_) {
      if (c == '\b' && !text.empty())
        text.pop_back();
      else if (c != '\a' && c != '\b')
        text += c;
    }
    return text;
  }

  /// Reads until `text` stands on the terminal; fails after 30 s.
  void expect(const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!contains(line(), text)) {
      pollfd entry{terminal_, POLLIN, 0};
      char bytes[4096];
      const bool ready = ::poll(&entry, 1, 100) == 1;
      const ssize_t got = ready ? ::read(terminal_, bytes, sizeof bytes) : 0;
      if (got > 0) seen_.append(bytes, static_cast<size_t>(got));
      if ((ready && got <= 0) || std::chrono::steady_clock::now() > deadline)
        FAIL("no '" << text << "' on the terminal, only:\n" << seen_);
    }
  }

  /// The line `typed` becomes `completed` by the tab key.
  void completes(const std::string& typed, const std::string& completed) {
    CAPTURE(typed);
    type(typed + "\t");
    expect(completed);
    type("\x15");  // away with the line
  }

 private:
  int terminal_ = -1;
  pid_t pid_ = -1;
  std::string seen_;
};

/// A folder with the completion of `shell` and a few files to complete.
class Place {
 public:
  explicit Place(const std::string& shell) {
    const ProcessResult result = launch({"completion", shell});
    REQUIRE(result.exit_code == 0);
    std::ofstream(folder_ / "script") << result.out;
    std::ofstream(folder_ / "quartz.yaml") << "";
  }
  std::string path() const { return folder_.path(); }

 private:
  TempDir folder_;
};

/// The tab key on what every shell must know.
void check_shell(Shell& shell) {
  shell.completes("launcher conf", "launcher config ");
  shell.completes("launcher config val", "launcher config validate ");
  shell.completes("launcher help opt", "launcher help options ");
  shell.completes("launcher completion z", "launcher completion zsh ");
  shell.completes("launcher env --js", "launcher env --json ");
  shell.completes("launcher launch --stand", "launcher launch --standalone ");
  shell.completes("launcher launch --bind nu", "launcher launch --bind numa ");
  shell.completes("launcher test --config_file qu", "launcher test --config_file quartz.yaml");
  shell.completes("launcher launch -n 2 ./qu", "launcher launch -n 2 ./quartz.yaml");
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

}  // namespace

TEST_CASE("completion: bash, on a terminal") {
  if (!on_path("bash")) WEFT_SKIP("bash is not installed");
  const Place place("bash");
  Shell shell({"bash", "--norc", "--noprofile", "-i"}, place.path());
  shell.type(
      "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; source ./script; "
      "echo rea''dy\n");
  shell.expect("ready\r\n");
  check_shell(shell);
  shell.completes("launcher --bi", "launcher --bind ");
  shell.completes("launcher --num-proc", "launcher --num-processes ");
  shell.completes("launcher --bind=nu", "launcher --bind=numa ");
  shell.completes("launcher --grace 3 --stand", "launcher --grace 3 --standalone ");
  // Behind the program its own arguments follow: files, and no option of the launcher's.
  shell.completes("launcher -n 2 ./train qu", "launcher -n 2 ./train quartz.yaml");
  shell.completes("launcher -- ./train qu", "launcher -- ./train quartz.yaml");
}

TEST_CASE("completion: zsh, on a terminal") {
  if (!on_path("zsh")) WEFT_SKIP("zsh is not installed");
  const Place place("zsh");
  Shell shell({"zsh", "-f", "-i"}, place.path());
  shell.type(
      "unsetopt zle_bracketed_paste prompt_sp; unset zle_bracketed_paste; PS1='> '; autoload -U "
      "compinit; compinit -D -u; source ./script; echo rea''dy\n");
  shell.expect("ready\r\n");
  check_shell(shell);
}

TEST_CASE("completion: fish") {
  if (!on_path("fish")) WEFT_SKIP("fish is not installed");
  const Place place("fish");
  const auto complete = [&](const std::string& line) {
    const ProcessResult result =
        run_process({"fish", "--no-config", "-c", "source ./script; complete -C '" + line + "'"},
                    {.folder = place.path(), .env = {"HOME=" + place.path()}});
    CHECK_MESSAGE(result.ok(), result.err);
    return result.out;
  };
  CHECK(contains(complete("launcher conf"), "config\tmake, show and check"));
  CHECK(complete("launcher config val") == "validate\n");
  CHECK(contains(complete("launcher --bi"), "--bind\t"));
  CHECK(contains(complete("launcher launch --bind nu"), "numa\t"));
  CHECK(contains(complete("launcher test --chec"), "--check"));
  CHECK(contains(complete("launcher test --config_file qu"), "quartz.yaml"));
  CHECK_FALSE(contains(complete("launcher env --bi"), "--bind"));
}

TEST_CASE("completion: every command and every option that works is known") {
  const std::string zsh = zsh_completion(), fish = fish_completion();
  std::string bash = bash_completion();
  std::replace(bash.begin(), bash.end(), '"', ' ');
  for (const Option& option : option_table()) {
    const std::string name = name_of(option);
    const bool works = option.later == nullptr;
    CHECK_MESSAGE(contains(zsh, "'--" + name + (option.kind == Kind::flag ? "[" : "=[")) == works,
                  name);
    if (name != "mixed_precision")
      CHECK_MESSAGE(contains(fish, " -l " + name + " ") == works, name);
    const std::vector<std::string> words = words_of(bash);
    if (works)
      CHECK_MESSAGE(std::find(words.begin(), words.end(), "--" + name) != words.end(), name);
  }
  for (const std::string& name : all_commands(command_folders())) {
    CHECK_MESSAGE(contains(bash, name), name);
    CHECK_MESSAGE(contains(zsh, "'" + name + ":"), name);
    CHECK_MESSAGE(contains(fish, " -a " + name + " -d"), name);
  }
}

TEST_CASE("launcher help: the commands, and a page with examples for each") {
  const ProcessResult list = launch({"help"});
  CHECK(list.exit_code == 0);
  for (const Command& command : command_table()) {
    const std::string name = command.name;
    CAPTURE(name);
    CHECK(contains(list.out, "\n  " + name + " "));
    const ProcessResult page = launch({"help", name});
    CHECK(page.exit_code == 0);
    CHECK(page.err.empty());
    CHECK_MESSAGE(contains(page.out, name == "help" ? "launcher -n 4" : "\n  launcher "), page.out);
    // The table of commands, from which completions come, knows the options that the page has.
    for (const std::string& word : split(command.options, ' ')) {
      const std::string option = "--" + word.substr(0, word.find('='));
      CHECK_MESSAGE(contains(page.out, option), option);
    }
    for (const std::string& word : split(command.words, ' '))
      if (name != "help") CHECK_MESSAGE(contains(page.out, word), word);
  }
  CHECK(launch({"help", "nothing"}).exit_code == 2);
}

TEST_CASE("launcher help: commands of others are listed by their file") {
  const TempDir folder;
  std::ofstream(folder / "weft-report") << "#!/bin/sh\n";
  std::ofstream(folder / "weft-env") << "#!/bin/sh\n";
  const std::string text = commands_help({folder.path()});
  CHECK(contains(text, "  report        weft-report\n"));
  CHECK(contains(text, "  env           what a bug report"));
  CHECK_FALSE(contains(text, "  test "));
  CHECK(contains(text, "  launch "));
}

TEST_CASE("launcher completion: another word is refused") {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"completion"}, {"completion", "tcsh"}}) {
    const ProcessResult result = launch(arguments);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK(compare_error_text(arguments.size() == 1 ? "completion_no_shell" : "completion_shell",
                             result.err.substr(0, result.err.find('\n'))) == "");
  }
  CHECK(contains(launch({"help", "completion"}).out, "launcher completion bash|zsh|fish"));
}
