// The `launcher` program: its command line.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/launcher/command_line.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/dry_run.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/help.hpp>
#include <weft/launcher/hosts.hpp>
#include <weft/launcher/launch.hpp>
#include <weft/launcher/options.hpp>

namespace {

using namespace weft::launcher;

int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0)
    throw LaunchError(kExitLost, fmt::format("standard output: {}", std::strerror(errno)));
  return 0;
}

int run_for_real(const LaunchOptions& options) {
  refuse_unsupported(options);
  return launch(options);
}

/// Ends as the start would, the values being shown where they can be.
int run_dry(const LaunchOptions& options) {
  std::string text;
  try {
    text = dry_run_text(options);
  } catch (const std::exception&) {
    refuse_unsupported(options);  // which would come first
    throw;
  }
  print(text);
  refuse_unsupported(options);
  return 0;
}

int run_launch(const std::vector<std::string>& arguments) {
  const CommandLine line = parse_command_line(arguments);
  if (line.help) return print(launch_help());
  if (line.version) return print("weft launcher " WEFT_VERSION "\n");
  const LaunchOptions options = resolve_all(line);
  const int code = options.dry_run ? run_dry(options) : run_for_real(options);
  // At the end: in front, they could be taken for the first failure.
  if (!options.quiet)
    for (const std::string& warning : options.warnings)
      std::fprintf(stderr, "%s\n", warning.c_str());
  return code;
}

/// Started through ssh by the launcher of another host, which tells the rest.
int run_remote() {
  const Orders orders = take_orders();
  // The orders have all that was said by flag, variable or file on the host of the user.
  LaunchOptions options =
      resolve(parse_command_line(orders.arguments), {}, true, Sources::file_alone);
  options.controlled = true;
  return launch(options);
}

int run_command(const std::string& name, const std::vector<std::string>& arguments,
                bool for_help = false) {
  const std::vector<std::string> folders = command_folders();
  const std::string path = find_command(name, folders);
  if (path.empty())
    throw LaunchError(kExitUsage, unknown_command_text(name, all_commands(folders), for_help));
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  throw LaunchError(kExitNotExecutable, fmt::format("{}: {}", path, std::strerror(errno)));
}

int run_help(const std::vector<std::string>& arguments) {
  if (arguments.empty() || arguments[0] == "help") return print(commands_help(command_folders()));
  if (arguments[0] == "launch") return print(launch_help());
  if (arguments[0] == "options") return print(options_help());
  return run_command(arguments[0], {"--help"}, true);
}

int run(std::vector<std::string> arguments) {
  if (arguments.empty()) {
    std::fputs(launch_help().c_str(), stderr);
    return kExitUsage;
  }
  const std::string first = arguments[0];
  // The short form: options come first, or a program's path.
  if (first.empty() || first[0] == '-' || first.find('/') != std::string::npos)
    return run_launch(arguments);
  arguments.erase(arguments.begin());
  if (first == "remote") return run_remote();
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
  } catch (const ConfigError& error) {
    std::fprintf(stderr, "%s\n", error.what());  // begins with the place, as a compiler's would
    return error.code();
  } catch (const LaunchError& error) {
    std::fprintf(stderr, "launcher: %s\n", error.what());
    return error.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "launcher: %s\n", error.what());
    return kExitUsage;
  }
}
