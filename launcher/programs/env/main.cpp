// `launcher env`: a block to paste into a bug report.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/launcher/programs/env/facts.hpp>

namespace {

using namespace weft;

constexpr const char* kHelp =
    R"(Prints what a report about a problem needs: versions, build options, CPU, memory, NUMA, GPUs,
network, limits, variables, configuration. Secrets are left out. Please paste all of it.

  launcher env [--json] [--config_file FILE]

      --json               as JSON
      --config_file FILE   the configuration to report (default: that of launcher launch)
  -h, --help               this text

  launcher env
  launcher env --json | jq .cpu
)";

int run(const std::vector<std::string>& words) {
  bool json = false;
  std::string config;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "-h" || word == "--help") {
      std::fputs(kHelp, stdout);
      return 0;
    }
    if (word == "--json") {
      json = true;
    } else if (word == "--config_file" || word == "--config-file") {
      WEFT_CHECK(ArgumentError, i + 1 < words.size(), "launcher env: {} takes a value", word);
      config = words[++i];
    } else if (word.starts_with("--config_file=") || word.starts_with("--config-file=")) {
      config = word.substr(word.find('=') + 1);
    } else {
      throw ArgumentError("launcher env: unknown argument " + word +
                          "; it takes --json and --config_file FILE");
    }
  }
  const auto sections = env_report::all_sections(config);
  std::fputs((json ? env_report::as_json(sections) : env_report::as_text(sections)).c_str(),
             stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
