// `launcher test`: does everything work here? This program starts ranks through the launcher,
// gathers what they find, and prints the table; it needs no libweft, and so can tell where that is
// broken.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/launcher/command_line.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/programs/find_launcher.hpp>
#include <weft/launcher/programs/test/driver.hpp>
#include <weft/launcher/programs/test/plan.hpp>

namespace {

using namespace weft;
using namespace weft::self_test;

constexpr const char* kHelp =
    R"(Checks that everything works here, on ranks that are started through the launcher, and prints one
table: check, result (PASS, FAIL or SKIP), time, a figure or a hint.

  launcher test [OPTIONS] [OPTIONS of launcher launch]

      --check NAMES        only these checks, by commas; * stands for any letters
      --check_limit S      seconds that one check may take (default: 10)
      --list               the checks, each with a line about it
      --quick              fewer and smaller messages
      --break CHECK=HOW    put a fault into a check, to see it found: wrong, crash, hang, leave
  -h, --help               this text

Without a number of ranks, from options or configuration, there are 2. A check that hangs or crashes
fails alone; the others go on with new ranks. Bandwidths are those of the message, and, in
parentheses, on the bus (as nccl-tests counts them). On several hosts the same command is started on
each, or --hostfile names them.

Exit code: 0 all passed or skipped, 1 a check failed, 2 usage or configuration.

  launcher test
  launcher test -n 4 --check 'all_*,bandwidth_*'
  launcher test --config_file cluster.yaml
)";

struct Arguments {
  DriverOptions driver;
  bool help = false, list = false;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t comma = std::min(text.find(',', start), text.size());
    if (comma > start) parts.push_back(text.substr(start, comma - start));
    start = comma + 1;
  }
  return parts;
}

/// An option of ours, in both spellings; `value` is what stands behind = or as the next word.
class Words {
 public:
  Words(int argc, char** argv) : words_(argv + 1, argv + argc) {}

  bool done() const { return at_ == words_.size(); }
  const std::string& word() const { return words_[at_]; }
  void skip() { ++at_; }

  bool flag(const std::string& name) {
    if (spelled(word()) != name) return false;
    ++at_;
    return true;
  }

  bool value(const std::string& name, std::string& value) {
    const size_t equals = word().find('=');
    if (spelled(word().substr(0, equals)) != name) return false;
    if (equals != std::string::npos) {
      value = word().substr(equals + 1);
      ++at_;
      return true;
    }
    WEFT_CHECK(ArgumentError, at_ + 1 < words_.size(), "launcher test: {} takes a value", name);
    value = words_[at_ + 1];
    at_ += 2;
    return true;
  }

 private:
  static std::string spelled(std::string word) {
    if (word.starts_with("--"))
      for (size_t i = 2; i < word.size(); ++i)
        if (word[i] == '-') word[i] = '_';
    return word;
  }

  std::vector<std::string> words_;
  size_t at_ = 0;
};

double parse_seconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  WEFT_CHECK(ArgumentError, !text.empty() && *end == '\0' && value >= 1 && value <= 86400,
             "launcher test: --check_limit {}: a number of seconds of 1 or more", text);
  return value;
}

Arguments read(int argc, char** argv) {
  Arguments arguments;
  std::string text;
  for (Words words(argc, argv); !words.done();) {
    if (words.flag("-h") || words.flag("--help")) {
      arguments.help = true;
    } else if (words.flag("--quick")) {
      arguments.driver.quick = true;
    } else if (words.flag("--list")) {
      arguments.list = true;
    } else if (words.value("--check", text)) {
      arguments.driver.patterns = split(text);
    } else if (words.value("--check_limit", text)) {
      arguments.driver.limit = parse_seconds(text);
    } else if (words.value("--break", text)) {
      WEFT_CHECK(
          ArgumentError, parse_fault(text).has_value(),
          "launcher test: --break {}: write CHECK=HOW, HOW being wrong, crash, hang or leave",
          text);
      arguments.driver.fault = text;
    } else {
      arguments.driver.launch.push_back(words.word());
      words.skip();
    }
  }
  return arguments;
}

/// Options for the launcher beside those that were given: what the checks need.
void complete(DriverOptions& driver) {
  const launcher::CommandLine line = launcher::parse_command_line(driver.launch);
  WEFT_CHECK(ArgumentError, line.command.empty(),
             "launcher test: it takes options alone, not '{}'; launcher help test lists them",
             line.command.front());
  const launcher::LaunchOptions options = launcher::resolve_all(line, false);
  launcher::refuse_unsupported(options);
  WEFT_CHECK(ArgumentError, !options.dry_run,
             "launcher test: nothing is tested by a dry run; launcher launch --dry_run shows one");
  const auto add = [&](const char* name, const std::string& value) {
    if (options.setting(name).layer == launcher::Layer::flag) return;
    driver.launch.insert(driver.launch.end(), {std::string("--") + name, value});
  };
  if (!options.ranks_given && options.hostfile.empty()) add("nproc_per_node", "2");
  // A hang is found by the ranks themselves, which name who is missing, before the check's limit.
  add("collective_timeout", fmt::format("{:.0f}", std::max(1.0, std::floor(driver.limit * 0.8))));
  add("grace", "3");
  add("max_restarts", "0");
  add("redirects", "0");  // the ranks' reports come through the console
}

int run(int argc, char** argv) {
  Arguments arguments = read(argc, argv);
  if (arguments.help) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (arguments.list) {
    for (const CheckName& check : check_names())
      std::printf("%-26s %s\n", check.name, check.meaning);
    std::printf("%-26s %s\n", kKillDrill.name, kKillDrill.meaning);
    return 0;
  }
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  arguments.driver.ranks = self.parent_path() / "test-ranks";
  arguments.driver.launcher = launcher::find_launcher();
  complete(arguments.driver);
  return drive(arguments.driver);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const launcher::ConfigError& error) {
    std::fprintf(stderr, "%s\n", error.what());  // begins with the place, as a compiler's would
    return error.code();
  } catch (const std::exception& error) {
    const std::string text = error.what();
    std::fprintf(stderr, "%s%s\n", text.starts_with("launcher") ? "" : "launcher: ", text.c_str());
    return 2;
  }
}
