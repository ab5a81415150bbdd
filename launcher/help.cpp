#include <weft/launcher/help.hpp>

#include <weft/core/base/check.hpp>
#include <weft/launcher/option_table.hpp>

namespace weft::inline v0::launcher {

namespace {

constexpr const char* kHead =
    R"(Starts a program as several ranks on this host or on many, watches over them, passes on their output.

  launcher [launch] [OPTIONS] PROGRAM [ARGUMENTS]
  launcher COMMAND [ARGUMENTS]      another command, an executable weft-COMMAND
  launcher help [COMMAND]           the commands; help options: every option, with its variables and keys

Options (with _ or - between words; they end where the program's name stands, or at --). Each has an
environment variable WEFT_NAME and a key in the configuration file; flags go before variables,
variables before the file.
)";

constexpr const char* kTail = R"(
Exit code: 0, or that of the first rank that failed (128 + signal where a signal killed it);
2 usage or configuration, 124 time limit, 126 program not executable, 127 program not found,
130 Ctrl-C. Ctrl-C and other signals are passed on to the ranks; a second Ctrl-C kills them.

Each rank finds its place in RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and
MASTER_PORT, and may use WEFT_NUM_THREADS threads (its share of the CPUs, unless it is set). Rank 0
reads the launcher's input, unless that is a terminal.

  launcher -n 4 ./model_train --epochs 3
  launcher -n auto --time_limit 3600 ./model_train
  launcher --nnodes 2 --node_rank 0 --rdzv_endpoint host0:29500 -n 4 ./model_train
)";

constexpr size_t kColumn = 36;  // where explanations begin

void append_line(std::string& text, const Option& option) {
  std::string flags = "      ";
  for (const std::string& name : names_of(option))
    if (name.size() == 1) flags = fmt::format("  -{}, ", name);
  flags += "--" + name_of(option);
  if (*option.value != '\0') flags += fmt::format(" {}", option.value);
  std::string help = option.help;
  if (option.kind == Kind::choice && option.later == nullptr &&
      std::string_view(option.range).size() < 30)
    help += fmt::format(" ({})", option.range);
  const bool on_or_off = option.kind == Kind::flag || option.kind == Kind::boolean;
  if (*option.initial != '\0' && !on_or_off) help += fmt::format(" [{}]", option.initial);
  if (flags.size() + 2 <= kColumn)
    text += fmt::format("{:<{}}{}\n", flags, kColumn, help);
  else
    text += fmt::format("{}\n{:<{}}{}\n", flags, "", kColumn, help);
}

bool of_later_version(Section section) {
  return section == Section::zero || section == Section::fsdp || section == Section::parallel ||
         section == Section::megatron || section == Section::fp8 || section == Section::idle;
}

std::string joined(const std::vector<std::string>& words, const char* before) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + (before + word);
  return text;
}

}  // namespace

std::string launch_help() {
  std::string text = kHead;
  const Option* last = nullptr;
  for (const Option& option : option_table()) {
    if (of_later_version(option.section)) continue;
    if (last == nullptr || last->section != option.section)
      text += fmt::format("\n{}:\n", title_of(option.section));
    append_line(text, option);
    last = &option;
  }
  text += fmt::format("{:<{}}{}\n{:<{}}{}\n", "  -h, --help", kColumn, "this text",
                      "      --version", kColumn, "the version");
  return text + kTail;
}

std::string options_help() {
  std::string text =
      "All options of launcher launch, with their variables and configuration keys.\n";
  const Option* last = nullptr;
  for (const Option& option : option_table()) {
    if (last == nullptr || last->section != option.section)
      text += fmt::format("\n{}:\n", title_of(option.section));
    append_line(text, option);
    std::vector<std::string> others;
    for (const std::string& name : names_of(option))
      if (name.size() > 1 && name != name_of(option)) others.push_back(name);
    const auto add = [&](const char* what, const std::string& words) {
      if (!words.empty()) text += fmt::format("{:<{}}{}: {}\n", "", kColumn, what, words);
    };
    add("also", joined(others, "--"));
    if (option.kind == Kind::choice) add("values", option.range);
    add("variables", joined(variables_of(option), ""));
    add("keys", joined(keys_of(option), ""));
    last = &option;
  }
  return text;
}

}  // namespace weft::inline v0::launcher
