// `launcher config`: makes, shows and checks configuration files.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/core/base/env.hpp>
#include <weft/launcher/asker.hpp>
#include <weft/launcher/command_line.hpp>
#include <weft/launcher/commands.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/config_edit.hpp>
#include <weft/launcher/config_questions.hpp>
#include <weft/launcher/config_show.hpp>
#include <weft/launcher/config_write.hpp>
#include <weft/launcher/error.hpp>

namespace {

using namespace weft::launcher;
namespace yaml = weft::yaml;

constexpr const char* kHelp =
    R"(Makes, shows and checks the configuration that launcher launch reads.

  launcher config                       asks, and writes the file
  launcher config default               writes a file for one process, asks nothing
  launcher config set KEY=VALUE ...     changes values, asks nothing; KEY= removes one
  launcher config update                writes the file again, in today's form
  launcher config show                  the values of the file
  launcher config show --resolved [LAUNCH OPTIONS]
                                        each option's value and where it comes from
  launcher config validate [FILE ...]   checks every key and value; exit code 2 where one is wrong

Options:
      --config_file FILE    the file (WEFT_CONFIG_FILE; default: default_config.yaml in $WEFT_HOME,
                            else $XDG_CACHE_HOME/weft, else ~/.cache/weft); JSON where it ends so
      --mixed_precision TYPE  default: no, fp16, bf16 or fp8
      --overwrite           default: also where the file exists
  -h, --help                this text

Keys are Accelerate's where they mean the same, so its files work; launcher help options lists them.

  launcher config set num_processes=4 bind=core
  launcher config show --resolved -n 2
)";

[[noreturn]] void usage(const std::string& text) {
  throw LaunchError(kExitUsage, text + "; launcher config --help says how it is used");
}

struct Arguments {
  std::string action = "ask";
  std::string path = {};
  bool path_given = false;
  std::string mixed_precision = "no";
  bool overwrite = false, resolved = false, help = false;
  std::vector<std::string> rest = {};
};

std::string exists_text(const std::string& path) {
  return fmt::format("{}: there is none; launcher config makes one", path);
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

/// The text of `document`; in YAML that of the file, where there is one, but for the lines that
/// change.
std::string text_of(const std::string& path, const yaml::Node& document, bool keep) {
  struct stat info {};
  const bool there = ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
  if (!keep || path.ends_with(".json") || !there) return emit(document, path);
  const yaml::Node before = yaml::read_file(path);  // which knows how large a file may be
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return edited(text, before, document).value_or(emit(document, path));
}

void write(const std::string& path, const yaml::Node& document, bool keep = true) {
  const std::string text = text_of(path, document, keep);
  const ConfigFile file = parse_config(text, path);  // nothing that launch would refuse is written
  resolve({}, file.settings, false, Sources::file_alone);
  write_atomically(path, text);
}

void warn(const ConfigFile& file) {
  if (const std::string text = ignored_text(file); !text.empty())
    std::fprintf(stderr, "launcher: %s\n", text.c_str());
}

int ask(const Arguments& arguments) {
  yaml::Node document = load_document(arguments.path, false);
  ask_questions(*make_asker(), document);
  write(arguments.path, document);
  std::printf(
      "%s is written. launcher PROGRAM uses it; launcher config show --resolved lists all.\n",
      arguments.path.c_str());
  return 0;
}

int write_default(const Arguments& arguments) {
  if (exists(arguments.path) && !arguments.overwrite)
    throw LaunchError(kExitUsage,
                      fmt::format("{}: exists and is left as it is; change it with launcher config "
                                  "set, or give --overwrite",
                                  arguments.path));
  yaml::Node document;
  document.kind = yaml::Node::Kind::map;
  fill_with_defaults(document, arguments.mixed_precision);
  write(arguments.path, document, false);
  std::printf("%s is written.\n", arguments.path.c_str());
  return 0;
}

int set(const Arguments& arguments) {
  if (arguments.rest.empty()) usage("set: no KEY=VALUE is given");
  yaml::Node document = load_document(arguments.path, false);
  std::vector<std::string> named;
  for (const std::string& word : arguments.rest) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0)
      usage(fmt::format("set {}: KEY=VALUE is expected", word));
    const ConfigKey key = key_to_set(word.substr(0, equals));
    const std::string what = key.option != nullptr ? name_of(*key.option) : key.full();
    if (std::find(named.begin(), named.end(), what) != named.end())
      usage(fmt::format("set {}: {} is given twice", word, what));
    named.push_back(what);
    set_value(document, key, word.substr(equals + 1));
  }
  write(arguments.path, document);
  return 0;
}

int update(const Arguments& arguments) {
  if (!exists(arguments.path)) throw LaunchError(kExitUsage, exists_text(arguments.path));
  yaml::Node document = load_document(arguments.path, true);
  const std::vector<std::string> changes = modernise(document);
  write(arguments.path, document);
  for (const std::string& change : changes) std::printf("%s\n", change.c_str());
  std::printf("%s is written.\n", arguments.path.c_str());
  warn(load_config(arguments.path));
  return 0;
}

int show_all(const Arguments& arguments) {
  CommandLine line = parse_command_line(arguments.rest);
  if (!line.command.empty())
    usage(fmt::format("show --resolved: '{}' is no option", line.command[0]));
  if (arguments.path_given)
    line.flags.push_back({&option_named("config_file"), "--config_file", arguments.path});
  const LaunchOptions options = resolve_all(line, false);
  if (!options.config_file.empty()) std::printf("# %s\n", options.config_file.c_str());
  std::fputs(show_resolved(options).c_str(), stdout);
  for (const std::string& warning : options.warnings) std::fprintf(stderr, "%s\n", warning.c_str());
  return 0;
}

int show(const Arguments& arguments) {
  if (arguments.resolved) return show_all(arguments);
  if (!arguments.rest.empty()) usage(fmt::format("show: '{}' is too much", arguments.rest[0]));
  if (!exists(arguments.path) && !arguments.path_given) {
    std::printf("%s\n", exists_text(arguments.path).c_str());
    return 0;
  }
  const ConfigFile file = load_config(arguments.path);
  std::printf("# %s\n%s", file.path.c_str(), show_file(file).c_str());
  warn(file);
  return 0;
}

/// An error at a place of a file begins with the place, as a compiler's would.
void report(const LaunchError& error) {
  const bool placed = dynamic_cast<const ConfigError*>(&error) != nullptr;
  std::fprintf(stderr, "%s%s\n", placed ? "" : "launcher: ", error.what());
}

void validate_file(const std::string& path) {
  const ConfigFile file = load_config(path);
  const LaunchOptions options = resolve({}, file.settings, false, Sources::file_alone);
  std::printf("%s: valid\n", path.c_str());
  warn(file);
  try {
    refuse_unsupported(options);
  } catch (const LaunchError& error) {
    std::printf("but a program cannot be started with it yet: %s\n", error.what());
  }
}

int validate(const Arguments& arguments) {
  std::vector<std::string> paths = arguments.rest;
  if (paths.empty() || arguments.path_given) paths.insert(paths.begin(), arguments.path);
  int code = 0;
  for (const std::string& path : paths) {
    try {
      validate_file(path);
    } catch (const LaunchError& error) {  // the other files are looked at all the same
      report(error);
      code = error.code();
    }
  }
  return code;
}

/// --config_file in both spellings, and the flags of single actions; the rest is left.
class Parser {
 public:
  explicit Parser(std::vector<std::string> words) : words_(std::move(words)) {}

  Arguments parse() {
    static const std::vector<std::string> actions = {"default", "set", "show", "update",
                                                     "validate"};
    while (next_ < words_.size()) take(words_[next_++], actions);
    const bool resolves = result_.action == "show" && result_.resolved;  // as launch does
    if (result_.path_given && result_.path.empty())
      usage("--config_file=: a file's name is missing");
    if (!result_.path_given) {
      result_.path = weft::env::get("WEFT_CONFIG_FILE").value_or(default_config_path());
      if (result_.path.empty() && !result_.help && !resolves)
        usage(
            "no place for default_config.yaml: HOME is not set; set WEFT_HOME, or give "
            "--config_file");
    }
    if (result_.path == "none" && !resolves && !result_.help)
      usage("none: stands for no file at all; a file of that name is ./none");
    return std::move(result_);
  }

 private:
  void take(const std::string& word, const std::vector<std::string>& actions) {
    std::string flag = word.substr(0, word.find('='));
    for (char& c : flag)
      if (c == '-' && &c > flag.data() + 1) c = '_';
    const bool showing = result_.action == "show";
    if (word == "-h" || word == "--help") {
      result_.help = true;
    } else if (flag == "--config_file") {
      result_.path = value_of(word);
      result_.path_given = true;
    } else if (flag == "--mixed_precision" && result_.action == "default") {
      result_.mixed_precision = value_of(word);
    } else if (flag == "--overwrite" && result_.action == "default") {
      result_.overwrite = true;
    } else if (flag == "--resolved" && showing) {
      result_.resolved = true;
    } else if (word.starts_with("-") && word.size() > 1 && !showing) {
      usage(fmt::format("unknown option {}", word));
    } else if (!first_word_ || result_.action != "ask") {
      result_.rest.push_back(word);
    } else {
      first_word_ = false;
      result_.action = word;
      if (std::find(actions.begin(), actions.end(), word) == actions.end()) {
        const std::string meant = likely_meant(word, actions);
        usage(fmt::format("config has no '{}'{}", word,
                          meant.empty() ? "" : fmt::format(", did you mean '{}'?", meant)));
      }
    }
  }

  std::string value_of(const std::string& word) {
    if (const size_t equals = word.find('='); equals != std::string::npos)
      return word.substr(equals + 1);
    if (next_ == words_.size()) usage(fmt::format("{}: takes a value", word));
    return words_[next_++];
  }

  std::vector<std::string> words_;
  size_t next_ = 0;
  bool first_word_ = true;
  Arguments result_;
};

int run(const std::vector<std::string>& words) {
  const Arguments arguments = Parser(words).parse();
  if (arguments.help) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (arguments.action == "default") return write_default(arguments);
  if (arguments.action == "set") return set(arguments);
  if (arguments.action == "update") return update(arguments);
  if (arguments.action == "show") return show(arguments);
  if (arguments.action == "validate") return validate(arguments);
  return ask(arguments);
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error, not the end
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const Interrupted& interrupted) {
    std::fprintf(stderr, "\nlauncher: nothing is written\n");
    return 128 + interrupted.signal();
  } catch (const LaunchError& error) {
    report(error);
    return error.code();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "launcher: %s\n", error.what());
    return kExitUsage;
  }
}
