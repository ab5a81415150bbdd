#include <weft/launcher/output.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr size_t kTailLines = 20;  // of a failed rank's stderr, said again at the end

// Green, yellow, blue, magenta, cyan, and their bright ones: no red, which means an error.
constexpr std::array kColors = {32, 33, 34, 35, 36, 92, 93, 94, 95, 96};

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

Fd open_log(const std::string& folder, const std::string& file) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw LaunchError(kExitUsage, fmt::format("--log_dir: cannot make the folder {}: {}", folder,
                                              error.message()));
  Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!fd)
    throw LaunchError(kExitUsage,
                      fmt::format("--log_dir: cannot make {}: {}", file, std::strerror(errno)));
  return fd;
}

}  // namespace

OutputOptions output_options(const LaunchOptions& options, const std::string& job_id, int attempt) {
  OutputOptions output;
  if (!options.log_dir.empty())
    output.log_folder = fmt::format("{}/{}/attempt_{}", options.log_dir, job_id, attempt);
  output.redirects = options.redirects;
  output.tee = options.tee;
  // A folder alone asks for files, and takes nothing away from the console.
  if (!options.given("redirects") && !options.given("tee")) output.tee.all = 3;
  output.prefix = options.log_line_prefix_template;
  output.shown = options.local_ranks_filter;
  output.color = options.color;
  output.job_id = job_id;
  return output;
}

bool needs_pipe(const OutputOptions& options, int ranks) {
  return ranks > 1 || !options.log_folder.empty() || !options.prefix.value_or("").empty() ||
         !options.shown.empty();
}

StreamOptions stream_options(const OutputOptions& options, Stream stream, const RankPlace& place,
                             Sink& sink) {
  const auto [rank, local_rank, ranks] = place;
  const int bit = stream == Stream::out ? 1 : 2;
  const bool redirected = (options.redirects.of(local_rank) & bit) != 0;
  const bool teed = (options.tee.of(local_rank) & bit) != 0;
  StreamOptions result;
  if (!options.log_folder.empty() && (redirected || teed)) {
    const std::string folder = fmt::format("{}/rank_{}", options.log_folder, rank);
    result.log_name = fmt::format("{}/{}.log", folder, bit == 1 ? "stdout" : "stderr");
    result.log = open_log(folder, result.log_name);
  }
  const bool wanted = options.shown.empty() ||
                      std::count(options.shown.begin(), options.shown.end(), local_rank) > 0;
  if (wanted && (!redirected || teed)) result.sink = &sink;
  const std::string initial = ranks > 1 ? "[${rank}] " : "";
  result.prefix = expand_prefix(options.prefix.value_or(initial), place, options.job_id);
  if (is_coloured(options.color, sink.terminal()) && !result.prefix.empty())
    result.prefix = fmt::format("\x1b[{}m{}\x1b[0m",
                                kColors[static_cast<size_t>(rank) % kColors.size()], result.prefix);
  if (stream == Stream::err) result.tail_lines = kTailLines;
  return result;
}

std::string expand_prefix(const std::string& text, const RankPlace& place,
                          const std::string& job_id) {
  const std::pair<std::string, std::string> names[] = {
      {"${rank}", std::to_string(place.rank)},
      {"${local_rank}", std::to_string(place.local_rank)},
      {"${hostname}", host_name()},
      {"${job_id}", job_id},
      {"${role_name}", "rank"}};
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const auto name = std::find_if(std::begin(names), std::end(names), [&](const auto& entry) {
      return text.compare(at, entry.first.size(), entry.first) == 0;
    });
    if (name == std::end(names)) {
      result += text[at++];
    } else {
      result += name->second;
      at += name->first.size();
    }
  }
  return result;
}

bool is_coloured(Color color, bool terminal) {
  if (color != Color::automatic) return color == Color::always;
  return terminal && !env::get("NO_COLOR") && env::get("TERM").value_or("dumb") != "dumb";
}

}  // namespace weft::inline v0::launcher
