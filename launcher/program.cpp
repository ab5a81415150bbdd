#include <weft/launcher/program.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

bool is_regular(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool is_runnable(const std::string& path) {
  return is_regular(path) && ::access(path.c_str(), X_OK) == 0;
}

[[noreturn]] void not_found(const std::string& text) { throw LaunchError(kExitNotFound, text); }
[[noreturn]] void not_executable(const std::string& text) {
  throw LaunchError(kExitNotExecutable, text);
}

std::string check_path(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == EACCES)
      not_executable(
          fmt::format("{}: a folder on the way may not be entered; check the "
                      "permissions",
                      path));
    not_found(fmt::format(
        "{}: {}; is it built, and is the path right as seen from this folder?", path,
        errno == ENOENT || errno == ENOTDIR ? "no such program" : std::strerror(errno)));
  }
  if (S_ISDIR(info.st_mode))
    not_executable(fmt::format("{}: a folder, not a program; name the program in it", path));
  if (!is_runnable(path))
    not_executable(
        fmt::format("{}: may not be executed; if it is a program: chmod +x {}", path, path));
  return path;
}

}  // namespace

std::string find_program(const std::string& name) {
  if (name.empty()) not_found("the program's name is empty; write: launcher -n 2 PROGRAM");
  if (name.find('/') != std::string::npos) return check_path(name);
  const std::string folders = env::get("PATH").value_or("/usr/local/bin:/usr/bin:/bin");
  std::string unusable;
  for (size_t start = 0; start <= folders.size();) {
    const size_t end = std::min(folders.find(':', start), folders.size());
    const std::string folder = folders.substr(start, end - start);
    const std::string path = (folder.empty() ? "." : folder) + "/" + name;
    if (is_runnable(path)) return path;
    if (unusable.empty() && is_regular(path)) unusable = path;
    start = end + 1;
  }
  if (!unusable.empty()) return check_path(unusable);
  if (is_regular(name))
    not_found(fmt::format("{}: not on PATH; for the file in this folder write ./{}", name, name));
  not_found(fmt::format("{}: no such program on PATH; write its path, such as ./{}", name, name));
}

ExecFailure explain_exec_failure(const std::string& path, int error) {
  if (error == ENOENT)
    return {kExitNotFound,
            fmt::format("{}: cannot be started: its interpreter or loader is missing (the first "
                        "line of a script, or ldd, names it)",
                        path)};
  if (error == ENOEXEC)
    return {kExitNotExecutable,
            fmt::format("{}: cannot be started: neither a program for this machine nor a script "
                        "whose first line is #!INTERPRETER",
                        path)};
  return {kExitNotExecutable, fmt::format("{}: cannot be started: {}", path, std::strerror(error))};
}

}  // namespace weft::inline v0::launcher
