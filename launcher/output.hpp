// Where the ranks' output goes, and under what name.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <weft/launcher/options.hpp>
#include <weft/launcher/relay.hpp>

namespace weft::inline v0::launcher {

struct OutputOptions {
  std::string log_folder = {};  ///< of this job and attempt; empty: no files
  StreamMask redirects = {};    ///< as in LaunchOptions
  StreamMask tee = {};          ///< the same
  /// Template; none: "[${rank}] ", or nothing for a rank alone.
  std::optional<std::string> prefix = {};
  std::vector<int> shown = {};  ///< ranks of this host that are shown; empty: all
  Color color = Color::automatic;
  std::string job_id = {};
};

/// What the options ask for. The files of attempt k of a job are
/// LOG_DIR/JOB_ID/attempt_<k>/rank_<r>/stdout.log and stderr.log.
OutputOptions output_options(const LaunchOptions& options, const std::string& job_id, int attempt);

enum class Stream { out, err };

struct RankPlace {
  int rank, local_rank;
  int ranks;  ///< of all hosts
};

/// Whether the job needs a pipe for this stream of a rank, rather than the launcher's own output:
/// a rank alone that nothing is done about keeps the terminal.
bool needs_pipe(const OutputOptions& options, int ranks);

/// What happens to one stream of one rank. `sink` is where it would be shown. Makes the file.
/// Throws LaunchError where folder or file cannot be made.
StreamOptions stream_options(const OutputOptions& options, Stream stream, const RankPlace& place,
                             Sink& sink);

/// `text` with ${rank}, ${local_rank}, ${hostname}, ${job_id} and ${role_name} (always "rank")
/// filled in; other names stay as they are.
std::string expand_prefix(const std::string& text, const RankPlace& place,
                          const std::string& job_id);

/// Whether prefixes on this output are coloured: always, never, or on a terminal that is not "dumb"
/// and where NO_COLOR is not set.
bool is_coloured(Color color, bool terminal);

}  // namespace weft::inline v0::launcher
