#include <weft/launcher/options.hpp>

#include <algorithm>
#include <tuple>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/cpus.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/messages.hpp>
#include <weft/launcher/option_values.hpp>
#include <weft/launcher/refusal.hpp>

namespace weft::inline v0::launcher {

namespace {

template <class... Args>
[[noreturn]] void usage(fmt::format_string<Args...> text, Args&&... args) {
  throw LaunchError(kExitUsage, fmt::format(text, std::forward<Args>(args)...));
}

/// The flag among `line` that gives `option`. The same twice is an error, as are two of its
/// spellings with different values.
std::optional<Setting> from_flags(const CommandLine& line, const Option& option) {
  std::optional<Setting> found;
  for (const GivenFlag& given : line.flags) {
    if (given.option != &option) continue;
    Setting setting{.option = &option,
                    .value = given.value,
                    .layer = Layer::flag,
                    .origin = given.spelling,
                    .spelling = given.spelling};
    if (found && found->spelling == given.spelling)
      usage("{}: takes one value, and stands once; launcher --help lists the options",
            given.spelling);
    if (found && found->value != given.value)
      usage("{} contradicts {}: they mean the same; give one of them", shown(*found),
            shown(setting));
    found = std::move(setting);
  }
  return found;
}

std::optional<Setting> from_environment(const Option& option) {
  for (const std::string& name : variables_of(option))
    if (const auto value = env::get(name.c_str()))
      return Setting{.option = &option,
                     .value = *value,
                     .layer = Layer::environment,
                     .origin = name + "=" + *value,
                     .spelling = name};
  return std::nullopt;
}

/// Note [MASTER_ADDR and MASTER_PORT]
/// Scripts export them, and every rank has those of its own job, so that a launcher may find them
/// where nobody has thought of it. They say where hosts meet when nothing else does, and no more:
/// they contradict nothing, a job on one host does not care what they are, and one that starts its
/// own launchers, by ssh or srun, is not taken for one whose launchers were started by hand.
bool is_master(const Setting& setting) {
  return setting.layer == Layer::environment && setting.spelling.starts_with("MASTER_");
}

bool readable(const Setting& setting) {
  try {
    check_value(setting);
    return true;
  } catch (const LaunchError&) {
    return false;
  }
}

/// Fills LaunchOptions from the settings, group by group.
class Resolver {
 public:
  explicit Resolver(LaunchOptions& options) : options_(options) {}

  void run() {
    resolve_flags();
    resolve_nodes();
    resolve_endpoint();
    resolve_ranks();
    resolve_output();
    resolve_resources();
  }

 private:
  const Setting& at(std::string_view name) const { return options_.setting(name); }
  bool given(std::string_view name) const { return options_.given(name); }

  void resolve_flags() {
    options_.cpu = read_flag(at("cpu"));
    options_.dry_run = read_flag(at("dry_run"));
    options_.quiet = read_flag(at("quiet"));
    options_.debug = read_flag(at("debug"));
    options_.stats = read_flag(at("stats"));
    options_.standalone = read_flag(at("standalone"));
    options_.grace = read_seconds(at("grace"));
    if (given("time_limit")) options_.time_limit = read_seconds(at("time_limit"));
    options_.max_restarts = static_cast<int>(read_integer(at("max_restarts")));
    options_.rdzv_id = at("rdzv_id").value;
    options_.rdzv_backend = read_choice(at("rdzv_backend"));
    options_.hostfile = at("hostfile").value;
    if (given("num_cpu_threads_per_process"))
      options_.threads_per_process =
          static_cast<int>(read_integer(at("num_cpu_threads_per_process")));
  }

  void resolve_nodes() {
    std::tie(options_.nnodes_min, options_.nnodes_max) = read_nodes(at("nnodes"));
    // Every file of Accelerate has `machine_rank: 0`, which on one host says nothing.
    const bool says_nothing = at("node_rank").layer == Layer::config && options_.nnodes_max == 1 &&
                              read_integer(at("node_rank")) == 0;
    if (given("node_rank") && !says_nothing)
      options_.node_rank = static_cast<int>(read_integer(at("node_rank")));
    if (options_.standalone) {
      for (const char* other : {"nnodes", "node_rank", "hostfile", "rdzv_endpoint"}) {
        const bool harmless = std::string_view(other) == "nnodes" && options_.nnodes_max == 1;
        if (harmless || !given(other)) continue;
        if (at(other).layer == at("standalone").layer)
          refuse_setting(at(other),
                         " contradicts {}: a standalone job has one host; give one of them",
                         shown_flag("standalone"));
        if (at(other).layer > at("standalone").layer) options_.standalone = false;
      }
    }
    if (options_.standalone) {
      options_.nnodes_min = options_.nnodes_max = 1;
      options_.node_rank.reset();
      options_.hostfile.clear();
    }
    for (const char* filter : {"include", "exclude"})
      if (given(filter) && options_.hostfile.empty() && !options_.standalone)
        refuse_setting(at(filter), ": chooses among the hosts of a hostfile; add --hostfile FILE");
    if (options_.node_rank && *options_.node_rank >= options_.nnodes_max)
      refuse_setting(at("node_rank"), " contradicts {}: hosts are numbered from 0 to {}",
                     given("nnodes") ? shown(at("nnodes")) : "one host (nnodes: default)",
                     options_.nnodes_max - 1);
  }

  std::string shown_flag(std::string_view name) const {
    const Setting& setting = at(name);
    return setting.layer == Layer::flag ? setting.spelling : shown(setting);
  }

  /// rdzv_endpoint, or main_process_ip and main_process_port: whichever comes from the higher
  /// layer; in the same layer they have to agree.
  void resolve_endpoint() {
    const Setting &whole = at("rdzv_endpoint"), &host = at("main_process_ip"),
                  &port = at("main_process_port");
    Endpoint endpoint;
    if (given("rdzv_endpoint")) endpoint = read_endpoint(whole);
    const auto decides = [&](const Setting& part, bool differs) {
      if (part.layer == Layer::initial || part.layer < whole.layer) return false;
      if (part.layer == whole.layer && is_master(part)) return false;
      if (part.layer == whole.layer && differs)
        refuse_setting(part, " contradicts {}: give one of them", shown(whole));
      return true;
    };
    if (decides(host, host.value != endpoint.host)) endpoint.host = host.value;
    const bool junk =
        is_master(port) && !readable(port);  // where it matters, find_endpoint says so
    if (given("main_process_port") && !junk) {
      const int number = static_cast<int>(read_integer(port));
      if (decides(port, endpoint.port != 0 && number != endpoint.port)) endpoint.port = number;
    }
    if ((!endpoint.host.empty() || endpoint.port != 0) && !options_.standalone)
      options_.rdzv_endpoint = endpoint;
  }

  int automatic() const { return automatic_ranks(options_.threads_per_process.value_or(1)); }

  void resolve_ranks() {
    const Setting &here = at("nproc_per_node"), &total = at("num_processes");
    const int per_node = read_ranks(here).value_or(0);
    const int over_all = total.value.empty() ? 0 : read_ranks(total).value_or(0);
    const bool fixed = options_.nnodes_min == options_.nnodes_max;
    const int nodes = options_.nnodes_max;
    options_.ranks_given = given("nproc_per_node") || given("num_processes");
    if (here.layer == total.layer && here.layer != Layer::initial && fixed &&
        options_.hostfile.empty()) {
      const int expected = nodes * (per_node != 0 ? per_node : automatic());
      const int asked = over_all != 0 ? over_all : nodes * automatic();
      if (expected != asked) {
        if (nodes == 1)
          refuse_setting(here, " contradicts {}: on one host they are the same; give one of them",
                         shown(total));
        refuse_setting(here,
                       " contradicts {}: {} hosts with {} ranks each make {}; give one of them",
                       shown(total), nodes, expected / nodes, expected);
      }
    }
    if (total.layer > here.layer) {
      if (over_all == 0) {
        options_.ranks = automatic();
        return;
      }
      if (over_all < nodes && options_.hostfile.empty())
        refuse_setting(total, ": fewer ranks than the {} hosts of {}", nodes, shown(at("nnodes")));
      options_.total_ranks = over_all;
      options_.ranks = share_of(over_all, nodes, options_.node_rank.value_or(0));
      if (options_.ranks > kMaxRanks)
        refuse_setting(total,
                       ": {} ranks on one host are more than a launcher starts; give at most {}",
                       options_.ranks, kMaxRanks);
      return;
    }
    options_.ranks = per_node != 0 ? per_node : automatic();
  }

  void resolve_output() {
    options_.log_dir = at("log_dir").value;
    options_.redirects = read_mask(at("redirects"));
    options_.tee = read_mask(at("tee"));
    if (given("log_line_prefix_template"))
      options_.log_line_prefix_template = at("log_line_prefix_template").value;
    options_.local_ranks_filter = read_integers(at("local_ranks_filter"));
    const std::string color = read_choice(at("color"));
    options_.color = color == "always"  ? Color::always
                     : color == "never" ? Color::never
                                        : Color::automatic;
    for (const char* name : {"redirects", "tee"})
      if (read_mask(at(name)).any() && options_.log_dir.empty())
        refuse_setting(at(name),
                       ": writes to files, but there is no folder for them; add --log_dir FOLDER");
    for (const auto& [rank, mask] : options_.redirects.some) require_rank(at("redirects"), rank);
    for (const auto& [rank, mask] : options_.tee.some) require_rank(at("tee"), rank);
  }

  /// Refuses a local rank that the ranks asked for do not have. Where their number comes from a
  /// higher layer, or others have a say in it, `setting` may have been written for more.
  void require_rank(const Setting& setting, int rank) const {
    const Layer asked = std::max(at("nproc_per_node").layer, at("num_processes").layer);
    if (rank < options_.ranks || !options_.ranks_given || options_.nnodes_max > 1 ||
        !options_.hostfile.empty() || setting.layer < asked)
      return;
    refuse_setting(setting, ": there is no local rank {} among {}; they count from 0", rank,
                   counted(options_.ranks, "rank"));
  }

  void resolve_resources() {
    const std::string bind = read_choice(at("bind"));
    const bool affinity = read_flag(at("enable_cpu_affinity"));
    if (affinity && given("bind") && bind != "numa" &&
        at("bind").layer == at("enable_cpu_affinity").layer)
      refuse_setting(at("bind"), " contradicts {}, which means --bind numa; give one of them",
                     shown_flag("enable_cpu_affinity"));
    options_.bind = bind == "core" ? Bind::core : bind == "numa" ? Bind::numa : Bind::none;
    if (affinity && at("enable_cpu_affinity").layer > at("bind").layer) options_.bind = Bind::numa;
    options_.gpu_ids = read_gpus(at("gpu_ids"));
  }

  LaunchOptions& options_;
};

/// What ranks find in their environment because of an option, unless its value is the default.
void pass_on(LaunchOptions& options, const CommandLine& line, const std::vector<Setting>& file) {
  const auto pass = [&](const char* name, const std::string& variable, const std::string& value) {
    // What the environment itself has reaches the ranks as it is.
    const Setting& setting = options.setting(name);
    if (setting.layer == Layer::initial || setting.spelling == variable) return;
    options.environment.push_back(fmt::format("{}={}", variable, value));
  };
  const auto same = [&](const char* name, const std::string& variable) {
    pass(name, variable, options.setting(name).value);
  };
  same("collective_timeout", "WEFT_COLLECTIVE_TIMEOUT");
  same("join_timeout", "WEFT_JOIN_TIMEOUT");
  same("num_cpu_threads_per_process", "WEFT_NUM_THREADS");
  for (const char* prefix : {"WEFT_", "ACCELERATE_"}) {
    same("gradient_accumulation_steps", prefix + std::string("GRADIENT_ACCUMULATION_STEPS"));
    same("mixed_precision", prefix + std::string("MIXED_PRECISION"));
  }
  if (options.debug && !env::get("WEFT_LOG_LEVEL"))
    options.environment.push_back("WEFT_LOG_LEVEL=debug");
  pass("cpu", "ACCELERATE_USE_CPU", options.cpu ? "true" : "false");
  pass("debug", "ACCELERATE_DEBUG_MODE", options.debug ? "true" : "false");
  // Variables by name: a later one, and so a flag, replaces an earlier one.
  const auto set = [&](const Setting& setting) {
    const std::string entry = read_variable(setting);
    const std::string name = entry.substr(0, entry.find('=') + 1);
    std::erase_if(options.environment,
                  [&](const std::string& other) { return other.starts_with(name); });
    options.environment.push_back(entry);
  };
  for (const Setting& setting : file)
    if (setting.option->kind == Kind::variable) set(setting);
  for (const GivenFlag& given : line.flags)
    if (given.option->kind == Kind::variable)
      set({.option = given.option,
           .value = given.value,
           .layer = Layer::flag,
           .origin = given.spelling,
           .spelling = given.spelling});
}

Setting settle(const Option& option, const CommandLine& line, const std::vector<Setting>& file,
               Sources sources) {
  Setting setting{.option = &option, .value = option.initial};
  for (const Setting& candidate : file)
    if (candidate.option == &option && !(option.kind == Kind::text && candidate.value.empty()))
      setting = candidate;
  if (sources == Sources::all)
    if (auto found = from_environment(option)) setting = *std::move(found);
  if (option.kind == Kind::variable) return setting;
  if (auto found = from_flags(line, option)) setting = *std::move(found);
  // OpenMP's variable speaks where nobody else does; a list in it is OpenMP's alone.
  if (name_of(option) == "num_cpu_threads_per_process" && setting.layer == Layer::initial &&
      sources == Sources::all)
    if (const auto threads = env::get("OMP_NUM_THREADS"))
      if (const auto count = to_int(*threads); count && *count >= 1 && *count <= 1048576)
        setting = {.option = &option,
                   .value = *threads,
                   .layer = Layer::environment,
                   .origin = "OMP_NUM_THREADS=" + *threads,
                   .spelling = "OMP_NUM_THREADS"};
  return setting;
}

/// Where hosts meet, as it would be said without MASTER_ADDR and MASTER_PORT: whether it is said at
/// all, and, for jobs that take no notice of them, what.
void settle_without_master(LaunchOptions& options, const CommandLine& line,
                           const std::vector<Setting>& file) {
  const bool unasked = !options.setting("hostfile").value.empty() ||
                       truth_of(options.setting("standalone").value).value_or(false);
  for (Setting& setting : options.settings) {
    const std::string name = name_of(*setting.option);
    if (name != "rdzv_endpoint" && name != "main_process_ip" && name != "main_process_port")
      continue;
    // They are the last of the variables, so that the rest is the file.
    Setting other =
        is_master(setting) ? settle(*setting.option, line, file, Sources::file_alone) : setting;
    options.endpoint_given = options.endpoint_given || other.layer != Layer::initial;
    if (unasked) setting = std::move(other);
  }
}

}  // namespace

int StreamMask::of(int local_rank) const {
  for (const auto& [rank, mask] : some)
    if (rank == local_rank) return mask;
  return all;
}

bool StreamMask::any() const {
  return all != 0 ||
         std::any_of(some.begin(), some.end(), [](const auto& entry) { return entry.second != 0; });
}

const Setting& LaunchOptions::setting(std::string_view name) const {
  const Option* option = &option_named(name);
  for (const Setting& candidate : settings)
    if (candidate.option == option) return candidate;
  detail::fail<ArgumentError>("launch options: not resolved, so {} has no value", name);
}

int share_of(int total, int nodes, int node) {
  return total / nodes + (node < total % nodes ? 1 : 0);
}

LaunchOptions resolve(const CommandLine& line, const std::vector<Setting>& file, bool needs_command,
                      Sources sources) {
  LaunchOptions options;
  for (const Option& option : option_table())
    options.settings.push_back(settle(option, line, file, sources));
  settle_without_master(options, line, file);
  for (const Setting& setting : options.settings)
    if (setting.layer != Layer::initial && !is_master(setting)) check_value(setting);
  Resolver(options).run();
  pass_on(options, line, file);
  if (line.command.empty() && needs_command)
    usage("no program to launch; write: launcher -n {} PROGRAM [ARGUMENTS]", options.ranks);
  options.command = line.command;
  return options;
}

std::vector<std::string> launch_flag_names() {
  std::vector<std::string> names;
  for (const Option& option : option_table())
    for (const std::string& name : names_of(option))
      if (name.size() > 1) names.push_back(name);
  names.insert(names.end(), {"help", "version"});
  return names;
}

}  // namespace weft::inline v0::launcher
