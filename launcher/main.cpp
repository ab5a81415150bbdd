// The `launcher` program: its command line.
#include <fcntl.h>
#include <unistd.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/help.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/options.hpp>

namespace {

using namespace weft::launcher;

/// Both spellings of a flag: --time_limit and --time-limit.
std::string spellings(const std::string& name) {
  std::string dashes = name;
  for (char& c : dashes)
    if (c == '_') c = '-';
  return dashes == name ? "--" + name : "--" + name + ",--" + dashes;
}

[[noreturn]] void usage(const std::string& text) {
  throw LaunchError(kExitUsage, text + "; launcher --help lists the options");
}

int print_help() {
  std::fputs(launch_help(), stdout);
  return 0;
}

int print_version() {
  std::puts("weft launcher " WEFT_VERSION);
  return 0;
}

/// The program and its arguments, or an error about the flag that stands in its place.
std::vector<std::string> program_of(std::vector<std::string> rest) {
  if (!rest.empty() && rest[0] == "--") {
    rest.erase(rest.begin());
    return rest;
  }
  if (rest.empty() || rest[0].find_first_not_of('-') == 0 || rest[0].size() < 2) return rest;
  const std::string flag = rest[0].substr(0, rest[0].find('='));
  const std::string meant =
      likely_meant(flag.substr(flag.find_first_not_of('-')), launch_flag_names());
  usage(meant.empty() ? fmt::format("unknown option {}", flag)
                      : fmt::format("unknown option {}, did you mean --{}?", flag, meant));
}

/// Options, then the program and all that follows it, byte for byte.
int run_launch(const std::vector<std::string>& arguments) {
  CLI::App app("", "launcher");
  LaunchFlags flags;
  bool help = false, version = false;
  app.prefix_command();
  app.set_help_flag();
  app.add_flag("-h,--help", help);
  app.add_flag("--version", version);
  const auto option = [&](const std::string& names, std::optional<std::string>& value) {
    app.add_option_function<std::string>(names, [&value](const std::string& text) { value = text; })
        ->type_name("VALUE")
        ->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  };
  option("-n," + spellings("nproc_per_node"), flags.ranks);
  option(spellings("num_processes"), flags.num_processes);
  option(spellings("time_limit"), flags.time_limit);
  option(spellings("grace"), flags.grace);
  option(spellings("collective_timeout"), flags.collective_timeout);
  option(spellings("join_timeout"), flags.join_timeout);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    usage(text.substr(0, text.find(':')) + ": takes one value, and stands once");
  } catch (const CLI::ParseError& error) {
    usage(error.what());
  }
  if (help) return print_help();
  if (version) return print_version();
  flags.command = program_of(app.remaining());
  return launch(resolve(flags));
}

int run_command(const std::string& name, const std::vector<std::string>& arguments) {
  const std::vector<std::string> folders = command_folders();
  const std::string path = find_command(name, folders);
  if (path.empty())
    throw LaunchError(kExitUsage, unknown_command_text(name, all_commands(folders)));
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  throw LaunchError(kExitNotExecutable, fmt::format("{}: {}", path, std::strerror(errno)));
}

int run_help(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "launch" || arguments[0] == "help") return print_help();
  return run_command(arguments[0], {"--help"});
}

int run(std::vector<std::string> arguments) {
  if (arguments.empty()) {
    std::fputs(launch_help(), stderr);
    return kExitUsage;
  }
  const std::string first = arguments[0];
  // The short form: options come first, or a program's path.
  if (first.empty() || first[0] == '-' || first.find('/') != std::string::npos)
    return run_launch(arguments);
  arguments.erase(arguments.begin());
  if (first == "launch") return run_launch(arguments);
  if (first == "help") return run_help(arguments);
  return run_command(first, arguments);
}

/// Started with a standard stream closed, the next file opened would take its place.
void open_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) < 0) ::_exit(kExitUsage);
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const LaunchError& error) {
    std::fprintf(stderr, "launcher: %s\n", error.what());
    return error.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "launcher: %s\n", error.what());
    return kExitUsage;
  }
}
