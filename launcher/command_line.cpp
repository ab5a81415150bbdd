#include <weft/launcher/command_line.hpp>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string_view>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

[[noreturn]] void usage(const std::string& text) {
  throw LaunchError(kExitUsage, text + "; launcher --help lists the options");
}

/// What other launchers' flags are called here; their names alone would suggest the wrong ones.
constexpr std::pair<std::string_view, std::string_view> kElsewhere[] = {
    {"m", "programs are run as they are; name the program itself"},
    {"module", "programs are run as they are; name the program itself"},
    {"run_path", "programs are run as they are; name the program itself"},
    {"num_gpus", "write -n"},
    {"num_nodes", "write --nnodes"},
    {"H", "write --hostfile FILE"},
    {"host", "write --hostfile FILE"},
    {"x", "write --env NAME=VALUE"},
    {"ssh_port", "write --ssh 'ssh -o BatchMode=yes -p PORT'"},
    {"no_ssh", "start the launcher on each host, with --nnodes, --node_rank and --rdzv_endpoint"},
    {"bind_to", "write --bind core or --bind numa"},
    {"bind_cores_to_rank", "write --bind core"},
    {"bind_core_list", "write taskset -c LIST launcher --bind core"},
    {"numa_binding", "write --bind numa"},
    {"enable_each_rank_log", "write --log_dir FOLDER"},
    {"output_filename", "write --log_dir FOLDER"},
    {"fp16", "write --mixed_precision fp16"},
    {"tpu", "there is no support of TPUs"},
    {"tpu_cluster", "there is no support of TPUs"},
    {"tpu_use_sudo", "there is no support of TPUs"},
    {"vm", "there is no support of TPUs"},
};

/// The option that `bare` was likely meant to be, with its dashes; empty where none is near.
std::string meant_option(std::string bare) {
  for (char& c : bare) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (bare.size() == 1) return find_option(bare) != nullptr || bare == "h" ? "-" + bare : "";
  const std::string meant = likely_meant(bare, launch_flag_names());
  return meant.empty() ? "" : "--" + meant;
}

/// The program and its arguments, or an error about the flag that stands in its place.
std::vector<std::string> program_of(std::vector<std::string> rest) {
  if (!rest.empty() && rest[0] == "--") {
    rest.erase(rest.begin());
    return rest;
  }
  if (rest.empty() || rest[0].find_first_not_of('-') == 0 || rest[0].size() < 2) return rest;
  const std::string flag = rest[0].substr(0, rest[0].find('='));
  std::string bare = flag.substr(flag.find_first_not_of('-'));
  std::replace(bare.begin(), bare.end(), '-', '_');
  for (const auto& [name, remedy] : kElsewhere)
    if (bare == name) usage(fmt::format("unknown option {}: {}", flag, remedy));
  const std::string meant = meant_option(bare);
  usage(meant.empty() ? fmt::format("unknown option {}", flag)
                      : fmt::format("unknown option {}, did you mean {}?", flag, meant));
}

/// Note [Words as they are]
/// The walk over the words is the launcher's own: a library of options takes `--log_dir=` for one
/// whose value follows, and reads brackets in a value as a list. Here a value is what stands behind
/// `=`, behind a short flag's letter, or the next word, byte for byte.
class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : words_(arguments) {}

  CommandLine parse() {
    while (next_ < words_.size() && take(words_[next_])) continue;
    if (!line_.help && !line_.version)
      line_.command =
          program_of({words_.begin() + static_cast<std::ptrdiff_t>(next_), words_.end()});
    return std::move(line_);
  }

 private:
  /// Takes the options of a word, and the word behind it where that is a value; false where the
  /// program begins.
  bool take(const std::string& word) {
    if (word == "--help" || word == "-h" || word == "--version") {
      (word == "--version" ? line_.version : line_.help) = true;
      ++next_;
      return true;
    }
    for (const char* flag : {"--help=", "-h=", "--version="})
      if (word.starts_with(flag))
        usage(fmt::format("{}: takes no value", word.substr(0, word.find('='))));
    if (!word.starts_with("--"))
      return word.starts_with('-') && word.size() > 1 && take_short(word);
    const size_t equals = word.find('=');
    const std::string flag = word.substr(0, equals);
    const Option* option = flag.size() > 3 ? find_option(flag.substr(2)) : nullptr;
    if (option == nullptr) return false;
    ++next_;
    if (equals != std::string::npos)
      add(*option, flag, word.substr(equals + 1));
    else
      add(*option, flag, option->kind == Kind::flag ? "true" : next_word(flag));
    return true;
  }

  /// "-n 2", "-n2", "-qn2"
  bool take_short(const std::string& word) {
    if (word == "-np") usage("unknown option -np: write -n");
    for (size_t at = 1; at < word.size(); ++at) {
      const std::string flag = std::string("-") + word[at];
      const Option* option = find_option(flag.substr(1));
      if (option == nullptr && at == 1) return false;
      if (option == nullptr) usage("unknown option " + flag);
      if (option->kind == Kind::flag) {
        add(*option, flag, "true");
      } else {
        ++next_;
        add(*option, flag, at + 1 < word.size() ? word.substr(at + 1) : next_word(flag));
        return true;
      }
    }
    ++next_;
    return true;
  }

  std::string next_word(const std::string& flag) {
    if (next_ == words_.size()) usage(flag + ": its value is missing");
    return words_[next_++];
  }

  /// A flag without a value may stand again.
  void add(const Option& option, const std::string& flag, const std::string& value) {
    for (const GivenFlag& given : line_.flags)
      if (option.kind == Kind::flag && given.spelling == flag && given.value == value) return;
    line_.flags.push_back({&option, flag, value});
  }

  const std::vector<std::string>& words_;
  size_t next_ = 0;
  CommandLine line_;
};

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  return Parser(arguments).parse();
}

}  // namespace weft::inline v0::launcher
