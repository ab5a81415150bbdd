// What is to be launched, and how: flag over environment over configuration file over default.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/launcher/option_table.hpp>

namespace weft::inline v0::launcher {

/// A flag as it was given.
struct GivenFlag {
  const Option* option;
  std::string spelling;  ///< with its dashes
  std::string value;     ///< "true" for a flag without a value
};

/// A command line: flags, then the program and its arguments.
struct CommandLine {
  std::vector<GivenFlag> flags = {};
  std::vector<std::string> command = {};
  bool help = false, version = false;
};

/// Where a value comes from, by rising precedence.
enum class Layer { initial, config, environment, flag };

/// The value of one option.
struct Setting {
  const Option* option = nullptr;
  std::string value = {};
  Layer layer = Layer::initial;
  /// "default", "default_config.yaml:7:1", "WEFT_GRACE=3", "--num_processes"
  std::string origin = "default";
  std::string spelling = {};  ///< the flag, variable or key
  std::string place = {};     ///< config: FILE:LINE:COLUMN of the value
};

/// Origin and value for an error: "-n 3", "WEFT_GRACE=soon", "f.yaml:3:8: grace: soon".
std::string shown(const Setting& setting);

struct Endpoint {
  std::string host = {};  ///< empty: not given
  int port = 0;           ///< 0: not given
};

/// Streams of ranks of this host: bit 1 stdout, bit 2 stderr.
struct StreamMask {
  int all = 0;                                 ///< of those that `some` does not name
  std::vector<std::pair<int, int>> some = {};  ///< local rank, mask
  int of(int local_rank) const;
  bool any() const;
};

enum class Bind { none, core, numa };
enum class Color { automatic, always, never };

/// All options, resolved.
struct LaunchOptions {
  /// Ranks on this host. With `total_ranks` over several nodes it is this node's share where
  /// node_rank is known, else that of node 0; the first nodes take what does not divide.
  int ranks = 1;
  std::optional<double> time_limit = {};  ///< seconds; none: no limit
  double grace = 10;                      ///< seconds between asking ranks to end and killing them
  std::vector<std::string> environment = {};  ///< "NAME=value", for the ranks
  std::vector<std::string> command = {};

  bool ranks_given = false;             ///< -n or num_processes was given, in whatever layer
  std::optional<int> total_ranks = {};  ///< num_processes, where it decides
  int nnodes_min = 1, nnodes_max = 1;
  std::optional<int> node_rank = {};
  std::optional<Endpoint> rdzv_endpoint = {};
  /// Whether more than MASTER_ADDR and MASTER_PORT says so: those may stand there for other
  /// reasons.
  bool endpoint_given = false;
  std::string rdzv_id = {};  ///< empty: a random one
  std::string rdzv_backend = "static";
  bool standalone = false;
  std::string hostfile = {};  ///< empty: none
  int max_restarts = 0;

  std::string log_dir = {};   ///< empty: none
  StreamMask redirects = {};  ///< to files of log_dir alone
  StreamMask tee = {};        ///< to files of log_dir and to the console
  std::optional<std::string> log_line_prefix_template = {};  ///< none: "[${rank}] "
  std::vector<int> local_ranks_filter = {};                  ///< empty: all ranks' output is shown
  Color color = Color::automatic;

  Bind bind = Bind::none;
  std::optional<int> threads_per_process = {};
  bool cpu = false;                              ///< no GPU is used, even where there is one
  std::optional<std::vector<int>> gpu_ids = {};  ///< none: all
  bool controlled = false;  ///< started on this host by the launcher of another one
  bool dry_run = false, quiet = false, debug = false, stats = false;
  std::string config_file = {};  ///< that was read; empty: none

  std::vector<Setting> settings = {};      ///< of every option, in the table's order
  std::vector<std::string> warnings = {};  ///< lines to show at the end of the job's output

  /// The setting of the option of this name (such as "nnodes").
  const Setting& setting(std::string_view name) const;
  /// "default", or where its value was given.
  const std::string& origin(std::string_view name) const { return setting(name).origin; }
  bool given(std::string_view name) const { return setting(name).layer != Layer::initial; }
};

/// Ranks that one launcher starts at most, so that a slip of the finger does not fell the host.
inline constexpr int kMaxRanks = 4096;

/// The ranks of node `node` out of `nodes` where `total` are spread over them.
int share_of(int total, int nodes, int node);

/// Whether the environment counts, or only what is handed over.
enum class Sources { all, file_alone };

/// Settles flags against environment, `file` (settings of Layer::config) and defaults. An empty
/// command is an error only where `needs_command`.
/// Throws LaunchError (exit code 2), naming origin, value and remedy.
LaunchOptions resolve(const CommandLine& line, const std::vector<Setting>& file = {},
                      bool needs_command = true, Sources sources = Sources::all);

/// The flags that launch takes, without their dashes, in the spelling with `_`.
std::vector<std::string> launch_flag_names();

}  // namespace weft::inline v0::launcher
