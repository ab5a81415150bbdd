// `launcher completion`: what a shell needs to complete the launcher's words.
#include <cstdio>
#include <string>

#include <weft/launcher/programs/completion/scripts.hpp>

namespace {

constexpr const char* kHelp =
    R"(Prints what a shell needs to complete the launcher's commands, options and their values.

  launcher completion bash|zsh|fish

  -h, --help       this text

An installed weft has these files in share/bash-completion, share/zsh/site-functions and
share/fish/vendor_completions.d already, where the shells look. By hand:

  source <(launcher completion bash)        in ~/.bashrc
  source <(launcher completion zsh)         in ~/.zshrc, behind compinit
  launcher completion fish | source         in ~/.config/fish/config.fish
)";

}  // namespace

int main(int argc, char** argv) {
  using namespace weft::launcher;
  const std::string word = argc == 2 ? argv[1] : "";
  if (word == "-h" || word == "--help")
    std::fputs(kHelp, stdout);
  else if (word == "bash")
    std::fputs(bash_completion().c_str(), stdout);
  else if (word == "zsh")
    std::fputs(zsh_completion().c_str(), stdout);
  else if (word == "fish")
    std::fputs(fish_completion().c_str(), stdout);
  else {
    std::fprintf(stderr, "launcher completion: write launcher completion bash, zsh or fish%s%s\n",
                 argc < 2 ? "" : "; not ", argc < 2 ? "" : argv[1]);
    return 2;
  }
  return 0;
}
