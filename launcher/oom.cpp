#include <weft/launcher/oom.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <string_view>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/socket.hpp>

namespace weft::inline v0::launcher {

namespace {

std::string read_text(const std::string& path) {
  const dist::detail::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[4096];
  ssize_t got = 0;
  while (file && (got = ::read(file.get(), buffer, sizeof buffer)) > 0)
    text.append(buffer, static_cast<size_t>(got));
  return text;
}

std::optional<uint64_t> number_at(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

/// The path of the process in the hierarchy whose line in /proc/self/cgroup has `controllers`
/// between its colons: "4:memory:/job" has /job, "0::/job" is version 2.
std::optional<std::string> path_in(std::string_view cgroups, std::string_view controller) {
  while (!cgroups.empty()) {
    const std::string_view line = cgroups.substr(0, cgroups.find('\n'));
    cgroups.remove_prefix(std::min(line.size() + 1, cgroups.size()));
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    // Several controllers may share a version 1 hierarchy: "memory,pids".
    std::string_view names = line.substr(first + 1, second - first - 1);
    while (true) {
      const std::string_view name = names.substr(0, names.find(','));
      if (name == controller) return std::string(line.substr(second + 1));
      if (name.size() == names.size()) break;
      names.remove_prefix(name.size() + 1);
    }
  }
  return std::nullopt;
}

}  // namespace

OomWatch::OomWatch(std::string root) : root_(std::move(root)) {
  const std::string cgroups = read_text(root_ + "/proc/self/cgroup");
  const auto use = [&](const std::string& mount, const std::optional<std::string>& path,
                       const char* events, const char* limit_file) {
    // In a container the hierarchy may be mounted so that this process is at its top.
    for (const std::string& group : {path.value_or(""), std::string("/")}) {
      if (group.empty() || in_group_) continue;
      group_ = group;
      folder_ = root_ + mount + (group == "/" ? "" : group) + "/";
      events_ = folder_ + events;
      limit_file_ = folder_ + limit_file;
      in_group_ = count_of(events_);
    }
  };
  use("/sys/fs/cgroup/memory", path_in(cgroups, "memory"), "memory.oom_control",
      "memory.limit_in_bytes");
  if (!in_group_) use("/sys/fs/cgroup", path_in(cgroups, ""), "memory.events", "memory.max");
  on_host_ = count_of(root_ + "/proc/vmstat");
}

std::optional<uint64_t> OomWatch::count_of(const std::string& file) const {
  const std::string text = "\n" + read_text(file);
  const size_t at = text.find("\noom_kill ");
  return at == std::string::npos ? std::nullopt : number_at(std::string_view(text).substr(at + 10));
}

std::string OomWatch::limit() const {
  const auto bytes = number_at(read_text(limit_file_));
  if (!bytes || *bytes > uint64_t{1} << 60) return "";
  return fmt::format(", the limit is {:.1f} MiB", static_cast<double>(*bytes) / (1 << 20));
}

std::string OomWatch::news() {
  const auto in_group = in_group_ ? count_of(events_) : std::nullopt;
  const auto on_host = count_of(root_ + "/proc/vmstat");
  std::string text;
  if (in_group && *in_group > *in_group_)
    text = fmt::format("the kernel's OOM killer: oom_kill of memory cgroup {} went from {} to {}{}",
                       group_, *in_group_, *in_group, limit());
  else if (on_host && on_host_ && *on_host > *on_host_)
    text = fmt::format(
        "probably the kernel's OOM killer: oom_kill in /proc/vmstat, of the whole host, went from "
        "{} to {}",
        *on_host_, *on_host);
  if (in_group) in_group_ = in_group;
  if (on_host) on_host_ = on_host;
  return text;
}

}  // namespace weft::inline v0::launcher
