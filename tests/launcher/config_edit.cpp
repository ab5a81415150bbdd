// `launcher config set` and `update` on files that people have written by hand.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <weft/core/base/yaml.hpp>
#include <weft/launcher/config.hpp>
#include <weft/launcher/config_edit.hpp>
#include <weft/launcher/config_write.hpp>
#include <weft/launcher/error.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

using Words = std::vector<std::string>;
using Values = std::vector<std::pair<std::string, std::string>>;

/// The file's text after `config set` of the values; empty where it would be written anew.
std::string after(const std::string& text, const Values& values) {
  const auto before = weft::yaml::parse(text, "f.yaml");
  auto document = before;
  if (document.kind == weft::yaml::Node::Kind::null) document.kind = weft::yaml::Node::Kind::map;
  for (const auto& [key, value] : values) set_value(document, key_to_set(key), value);
  return edited(text, before, document).value_or("");
}

const std::string kFile = R"(# The set-up of the two hosts in the cellar.
# Ask before changing the port!

num_processes: 4   # two each
num_machines: 2    # 'a' and "b"

# Where they meet.
main_process_ip: 'node0'	# a tab, and a quote ' in here
main_process_port: 29500

fsdp_config:  # sharding
  # the second version
  version: 2  # of two
  fsdp_offload_params: false

# ZeRO
deepspeed_config:
    zero_stage: 2   # four blanks

    # the end of ZeRO
env: [A=b, "C=d # e"]  # for the ranks
# the end
)";

/// Every option's value, in the order of the alphabet.
std::set<std::string> shown(const ConfigFile& file) {
  std::set<std::string> all;
  for (const Setting& setting : file.settings) all.insert(setting.spelling + "=" + setting.value);
  return all;
}

std::string changed(const std::string& from, const std::string& to) {
  REQUIRE(count_of(kFile, from) == 1);
  return replaced(kFile, from, to);
}

}  // namespace

TEST_CASE("config set: the value alone changes, and what stands around it stays") {
  CHECK(after(kFile, {}) == kFile);
  CHECK(after(kFile, {{"num_processes", "8"}}) ==
        changed("num_processes: 4   # two", "num_processes: 8   # two"));
  CHECK(after(kFile, {{"nnodes", "3"}}) ==
        changed("num_machines: 2    #", "nnodes: 3    #"));  // the key's other name
  CHECK(after(kFile, {{"main_process_ip", "a # b"}}) == changed("'node0'\t#", "'a # b'\t#"));
  CHECK(after(kFile, {{"main_process_port", "1"}}) == changed("port: 29500", "port: 1"));
  CHECK(after(kFile, {{"zero_stage", "3"}}) == changed("zero_stage: 2   #", "zero_stage: 3   #"));
  CHECK(after(kFile, {{"fsdp_version", "1"}}) ==
        changed("  version: 2  # of", "  fsdp_version: 1  # of"));
  CHECK(after(kFile, {{"fsdp_version", "1"}, {"zero_stage", "1"}, {"num_processes", "2"}}) != "");
  CHECK(after(kFile, {{"env", "X=y"}}) == changed("[A=b, \"C=d # e\"]  #", "X=y  #"));
  CHECK(after("a_key: 1\r\n", {}) == "a_key: 1\r\n");
  CHECK(after("num_processes: 4  # c\r\ngrace: 3\r\n", {{"num_processes", "5"}, {"quiet", "1"}}) ==
        "num_processes: 5  # c\r\ngrace: 3\r\nquiet: true\r\n");
  CHECK(after("num_processes: 4", {{"num_processes", "5"}}) == "num_processes: 5\n");
  CHECK(after("num_processes:   # how many\n", {{"num_processes", "5"}}) ==
        "num_processes: 5   # how many\n");
}

TEST_CASE("config set: new keys stand among the others, or at the end") {
  CHECK(after(kFile, {{"grace", "5"}}) == changed("for the ranks\n", "for the ranks\ngrace: 5\n"));
  CHECK(after(kFile, {{"fsdp_state_dict_type", "FULL_STATE_DICT"}}) ==
        changed("fsdp_offload_params: false\n",
                "fsdp_offload_params: false\n  fsdp_state_dict_type: FULL_STATE_DICT\n"));
  CHECK(after(kFile, {{"zero3_init_flag", "true"}}) ==
        changed("    zero_stage", "    zero3_init_flag: true\n    zero_stage"));
  CHECK(after(kFile, {{"fp8_format", "E4M3"}}) ==
        changed("for the ranks\n", "for the ranks\nfp8_config:\n  fp8_format: E4M3\n"));
  // In the order of the alphabet where the keys are in it; a comment at the top stays there.
  CHECK(after("# top\ngrace: 3\nquiet: true\n", {{"bind", "core"}, {"log_dir", "l"}}) ==
        "# top\ngrace: 3\nbind: core\nlog_dir: l\nquiet: true\n");
  CHECK(after("grace: 3 # s\nquiet: true\n", {{"bind", "core"}}) ==
        "bind: core\ngrace: 3 # s\nquiet: true\n");
  CHECK(after("", {{"grace", "3"}}) == "grace: 3\n");
  CHECK(after("# nothing yet\n", {{"grace", "3"}, {"zero_stage", "1"}}) ==
        "# nothing yet\ndeepspeed_config:\n  zero_stage: 1\ngrace: 3\n");
  CHECK(after("fsdp_config:  # later\ngrace: 3\n", {{"fsdp_version", "2"}}) ==
        "fsdp_config:  # later\n  fsdp_version: 2\ngrace: 3\n");
}

TEST_CASE("config set: a key goes with its line and its values, the comments around it stay") {
  CHECK(after(kFile, {{"num_machines", ""}}) ==
        changed("num_machines: 2    # 'a' and \"b\"\n", ""));
  CHECK(after(kFile, {{"fsdp_version", ""}}) == changed("  version: 2  # of two\n", ""));
  CHECK(after(kFile, {{"zero_stage", ""}}).find("deepspeed_config: {}\n") != std::string::npos);
  CHECK(after("env:\n  - A=b  # one\n  - C=d\n\n# grace\ngrace: 3\n", {{"env", ""}}) ==
        "\n# grace\ngrace: 3\n");
  CHECK(after("env:  # two\n  - A=b  # one\n  - C=d\n\n# grace\ngrace: 3\n", {{"env", "E=f"}}) ==
        "env: E=f  # two\n\n# grace\ngrace: 3\n");
  CHECK(after("ssh: |\n  a b\n  c\ngrace: 3 # s\n", {{"grace", "4"}}) ==
        "ssh: |\n  a b\n  c\ngrace: 4 # s\n");
  CHECK(after("log_dir: 'a\n  b'\ngrace: 3\n", {{"log_dir", "c"}}) == "log_dir: c\ngrace: 3\n");
  CHECK(after("fsdp_config: {version: 2}  # flow\n", {{"fsdp_version", "1"}}) ==
        "fsdp_config:  # flow\n  fsdp_version: 1\n");
  CHECK(after("{grace: 3}\n", {{"grace", "4"}}) == "");  // which is written anew
}

TEST_CASE("config set: texts in every shape are changed truly, or not at all") {
  const Words lines[] = {
      {"grace: 3", "'grace' : 3 # s", "grace:\n  3", "? grace\n: 3", "grace: !!int 3"},
      {"env: [A=b]", "env:\n- A=b # one\n# two\n- C=d", "env: {A: b}", "env:\n    A: b\n\n    C: d",
       "env: [A=b,\n  C=d]"},
      {"fsdp_config:\n   fsdp_version: 2 # v", "fsdp_config: {version: 2}", "fsdp_config:",
       "fsdp_config: # none\n  # at all", "\"fsdp_config\":\n  'version' :   \"2\"   # quoted"},
      {"log_dir: |\n  a # b\n\n  c", "log_dir: >-\n  a\n  b", "log_dir: 'it''s # a'#b",
       "log_dir: a#b", "log_dir: \"a\\\" # b\"  # c"}};
  const Values values = {
      {"grace", "4"},    {"env", "X=y"},      {"fsdp_version", "1"},          {"log_dir", "b # c"},
      {"grace", ""},     {"env", ""},         {"fsdp_version", ""},           {"log_dir", ""},
      {"quiet", "true"}, {"zero_stage", "1"}, {"fsdp_offload_params", "true"}};
  int kept = 0, all = 0;
  for (int shape = 0; shape < 5 * 5 * 5 * 5; ++shape)
    for (const char* end : {"\n", "\r\n", "\r", "\n# c\n\n"}) {
      std::string text;
      for (int i = 0, rest = shape; i < 4; ++i, rest /= 5)
        text += lines[(i + shape) % 4][static_cast<size_t>(rest % 5)] + end;
      weft::yaml::Node before;
      try {
        before = weft::yaml::parse(text, "f.yaml");
        read_config(before, "f.yaml");
      } catch (const weft::Error&) {
        continue;  // such as a tag, which no configuration has
      }
      const auto& [key, value] = values[static_cast<size_t>(shape) % values.size()];
      auto wanted = before;
      set_value(wanted, key_to_set(key), value);
      const auto result = edited(text, before, wanted);
      ++all;
      if (!result) continue;
      ++kept;
      CAPTURE(text);
      CAPTURE(*result);
      const auto there = weft::yaml::parse(*result, "f.yaml");
      // The same keys and values, whatever their order.
      CHECK(shown(read_config(there, "f.yaml")) ==
            shown(read_config(weft::yaml::parse(emit(wanted, "f.yaml"), "f.yaml"), "f.yaml")));
    }
  CHECK(all > 500);
  CHECK(kept * 2 > all);
}

TEST_CASE("config set and update: comments of the file survive the command") {
  const TempDir folder;
  const std::string path = folder / "f.yaml";
  const auto read = [&] {
    std::ifstream file(path);
    return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  };
  const auto config = [&](std::vector<std::string> words, const std::string& text) {
    std::ofstream(path) << text;
    words.insert(words.begin(), {kLauncher, "config"});
    words.insert(words.end(), {"--config_file", path});
    CHECK(run_process(words, {}).exit_code == 0);
    return read();
  };
  CHECK(config({"set", "num_processes=8", "bind=core"}, kFile) ==
        replaced(changed("num_processes: 4 ", "num_processes: 8 "), "for the ranks\n",
                 "for the ranks\nbind: core\n"));
  CHECK(config({"update"}, kFile) == changed("  version: 2", "  fsdp_version: 2"));
  CHECK(config({"update"},
               "fp16: true  # half\ntpu_name:  # none\n# what else\nfsdp_config: {}\n"
               "grace: 3\n") == "mixed_precision: fp16  # half\n# what else\ngrace: 3\n");
  // One that cannot be changed line by line is whole all the same.
  CHECK(config({"set", "grace=4"}, "{grace: 3, quiet: true}\n") == "grace: 4\nquiet: true\n");
  // A file takes the place of no device.
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const auto refused =
      run_process({kLauncher, "config", "default", "--overwrite", "--config_file", pipe}, {});
  CHECK(refused.exit_code == 2);
  CHECK(refused.err == "launcher: " + pipe + ": cannot be written: it is a device or a pipe\n");
  CHECK(std::filesystem::is_fifo(pipe));
  CHECK(config({"default", "--overwrite"}, kFile).find('#') == std::string::npos);
}
