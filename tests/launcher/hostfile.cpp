// The file that --hostfile names.
#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include <weft/launcher/error.hpp>
#include <weft/launcher/hostfile.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::launcher;
using namespace weft::test;

namespace {

using Entries = std::vector<HostEntry>;

}  // namespace

TEST_CASE("hostfile: forms, comments, addresses") {
  CHECK(parse_hostfile("# all of them\nnode1 slots=4\r\n\n  node2:2  # two\nnode3", "hosts") ==
        Entries{{"node1", 4}, {"node2", 2}, {"node3", 0}});
  CHECK(parse_hostfile("[fd00::2]:4\nfd00::3\n[fd00::4] slots=1\nme@10.0.0.1\n", "hosts") ==
        Entries{{"fd00::2", 4}, {"fd00::3", 0}, {"fd00::4", 1}, {"me@10.0.0.1", 0}});
}

TEST_CASE("hostfile: it is read from a path") {
  const TempDir folder;
  const std::string path = folder / "hosts";
  std::ofstream(path) << "a\nb slots=2\n";
  Setting setting{.option = &option_named("hostfile"),
                  .value = path,
                  .layer = Layer::flag,
                  .spelling = "--hostfile"};
  const auto hosts = read_hostfile(setting);
  CHECK(hosts == Entries{{"a", 0}, {"b", 2}});
  CHECK(hosts[1].place == path + ":2:1");
  setting.value += "x";
  const auto plain = [&](const std::string& text) { return replaced(text, path, "DIR/hosts"); };
  check_error<LaunchError>(
      "hostfile_missing", [&] { read_hostfile(setting); }, plain);
  setting.layer = Layer::config;
  setting.spelling = "hostfile";
  setting.place = "file.yaml:3:11";
  check_error<ConfigError>(
      "hostfile_missing_config", [&] { read_hostfile(setting); }, plain);
}

TEST_CASE("hostfile: filters take hosts or slots of them, or leave them out") {
  const auto hosts = parse_hostfile("a slots=4\nb slots=2\nc\nfd00::2\n", "hosts");
  const auto filtered = [&](const std::string& value, bool include) {
    const Setting setting{.option = &option_named(include ? "include" : "exclude"),
                          .value = value,
                          .layer = Layer::flag,
                          .spelling = include ? "--include" : "--exclude"};
    return filter_hosts(hosts, setting, include);
  };
  CHECK(filtered("b@a:0,3", true) == Entries{{"b", 2}, {"a", 2}});
  CHECK(filtered("fd00::2", true) == Entries{{"fd00::2", 0}});
  CHECK(filtered("a@c", false) == Entries{{"b", 2}, {"fd00::2", 0}});
  CHECK(filtered("a:1@b:0,1", false) == Entries{{"a", 3}, {"c", 0}, {"fd00::2", 0}});
  const auto fails = [&](const std::string& name, const std::string& value, bool include) {
    check_error<LaunchError>(name, [&] { filtered(value, include); });
  };
  fails("filter_unknown", "a@d", true);
  fails("filter_slot", "a:4", true);
  fails("filter_slot_word", "a:x", false);
  fails("filter_no_slots", "c:0", true);
  fails("filter_twice", "a@b@a:1", false);
  fails("filter_slot_twice", "a:1,1", true);
  fails("filter_nobody", "a@b@c@fd00::2", false);
  fails("filter_no_word", "a@", true);
}

TEST_CASE("hostfile: what is malformed is named with line and column, exit code 2") {
  const auto fails = [](const std::string& name, const std::string& text) {
    check_error<ConfigError>(name, [&] { parse_hostfile(text, "hosts"); });
    try {
      parse_hostfile(text, "hosts");
    } catch (const LaunchError& error) {
      CHECK(error.code() == 2);
    }
  };
  fails("hostfile_empty", "\n# nobody\n");
  fails("hostfile_twice", "a slots=1\nb\n a slots=2\n");
  fails("hostfile_slots_zero", "a slots=0\n");
  fails("hostfile_slots_word", "a\nb:four\n");
  fails("hostfile_slots_twice", "a:2 slots=3\n");
  fails("hostfile_slots_many", "a slots=5000\n");
  fails("hostfile_misspelt", "a slot=3\n");
  fails("hostfile_unknown", "a max_ranks=3\n");
  fails("hostfile_no_equals", "a slots\n");
  fails("hostfile_two_words", "a b\n");
  fails("hostfile_option", "-oProxyCommand=touch slots=1\n");
  fails("hostfile_character", "a;b slots=1\n");
  fails("hostfile_bracket", "[fd00::1 slots=1\n");
  fails("hostfile_behind_bracket", "[fd00::1]x\n");
  fails("hostfile_no_host", ":4\n");
  fails("hostfile_long", std::string(300, 'a') + "\n");
  fails("hostfile_size", std::string(kMaxHostfile + 1, '#'));
  std::string many;
  for (size_t i = 0; i <= kMaxHosts; ++i) many += "h" + std::to_string(i) + "\n";
  fails("hostfile_many", many);
}
