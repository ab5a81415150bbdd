#include <weft/launcher/command_line.hpp>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <set>

#include <weft/core/base/check.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/error.hpp>

namespace weft::inline v0::launcher {

namespace {

[[noreturn]] void usage(const std::string& text) {
  throw LaunchError(kExitUsage, text + "; launcher --help lists the options");
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
  const std::string meant = bare.size() < 2 ? "" : likely_meant(bare, launch_flag_names());
  usage(meant.empty() ? fmt::format("unknown option {}", flag)
                      : fmt::format("unknown option {}, did you mean --{}?", flag, meant));
}

/// Note [Flags that CLI11 knows]
/// The table has some two hundred spellings, and CLI11 compares each new one with all before it.
/// So only short flags and the long ones that occur among the arguments are made known to it, each
/// spelling as an option of its own: then a value's origin is the flag as it was written.
class Parser {
 public:
  explicit Parser(const std::vector<std::string>& arguments) : app_("", "launcher") {
    app_.prefix_command();
    app_.set_help_flag();
    app_.add_flag("-h,--help", line_.help);
    app_.add_flag("--version", line_.version);
    for (const Option& option : option_table())
      for (const std::string& name : names_of(option))
        if (name.size() == 1) add(option, "-" + name);
    for (const std::string& argument : arguments) {
      if (!argument.starts_with("--") || argument.size() < 4) continue;
      const std::string flag = argument.substr(0, argument.find('='));
      if (const Option* option = find_option(flag.substr(2));
          option != nullptr && flag.size() > 3 && added_.insert(flag).second)
        add(*option, flag);
    }
  }

  CommandLine parse(const std::vector<std::string>& arguments) {
    try {
      app_.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::ArgumentMismatch& error) {
      const std::string text = error.what();
      usage(text.substr(0, text.find(':')) + ": takes one value, and stands once");
    } catch (const CLI::ParseError& error) {
      usage(error.what());
    }
    if (!line_.help && !line_.version) line_.command = program_of(app_.remaining());
    return std::move(line_);
  }

 private:
  void add(const Option& option, const std::string& flag) {
    const auto take = [this, &option, flag](const std::string& text) {
      line_.flags.push_back({&option, flag, text});
    };
    if (option.kind == Kind::flag) {
      app_.add_flag_function(flag, [take](int64_t count) { take(count > 0 ? "true" : "false"); });
      return;
    }
    const auto policy = option.kind == Kind::variable ? CLI::MultiOptionPolicy::TakeAll
                                                      : CLI::MultiOptionPolicy::Throw;
    app_.add_option_function<std::vector<std::string>>(
            flag,
            [take](const std::vector<std::string>& texts) {
              for (const std::string& text : texts) take(text);
            })
        ->type_name("VALUE")
        ->type_size(1)
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(policy);
  }

  CLI::App app_;
  CommandLine line_;
  std::set<std::string> added_;
};

}  // namespace

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  return Parser(arguments).parse(arguments);
}

}  // namespace weft::inline v0::launcher
