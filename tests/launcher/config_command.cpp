// `launcher config`: its actions, its questions on a terminal and by lines, its files.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <weft/launcher/config.hpp>
#include <weft/launcher/config_write.hpp>
#include <weft/launcher/error.hpp>
#include <weft/launcher/option_table.hpp>
#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/launcher/pseudo_terminal.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
using namespace weft::launcher;

namespace {

const std::string kConfigs = WEFT_SOURCE_ROOT "/tests/goldens/configs/";

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A folder for weft's files, and `launcher config` in it.
struct Home {
  TempDir folder;

  std::string path() const { return (folder / "cache/default_config.yaml").string(); }
  std::string variable() const { return "WEFT_HOME=" + (folder / "cache").string(); }

  ProcessResult config(std::vector<std::string> words, const std::string& input = {}) const {
    words.insert(words.begin(), {kLauncher, "config"});
    return run_process(words, {.env = {variable(), "WEFT_CONFIG_FILE"}, .input = input});
  }
  /// The one line on stderr of a command that must fail with exit code 2.
  void refuses(const std::string& name, const std::vector<std::string>& words) const {
    CAPTURE(name);
    const auto result = config(words);
    CHECK(result.exit_code == 2);
    REQUIRE(result.err.ends_with("\n"));
    CHECK(compare_error_text(name, replaced(result.err.substr(0, result.err.size() - 1),
                                            folder.path(), "FOLDER")) == "");
  }
  void write(const std::string& text) const {
    std::filesystem::create_directories(folder / "cache");
    std::ofstream(path()) << text;
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    if (std::filesystem::exists(folder / "cache"))
      for (const auto& entry : std::filesystem::directory_iterator(folder / "cache"))
        names.push_back(entry.path().filename());
    return names;
  }
};

std::string value_in(const Home& home, const std::string& name) {
  return resolve({}, load_config(home.path()).settings, false).setting(name).value;
}

}  // namespace

TEST_CASE("config default: a file for one process, in a folder that it makes") {
  const Home home;
  CHECK(home.config({"show"}).out.find("there is none") != std::string::npos);
  const auto made = home.config({"default"});
  CHECK(made.exit_code == 0);
  CHECK(made.out == home.path() + " is written.\n");
  CHECK(read_text(home.path()) ==
        "debug: false\ndistributed_type: 'NO'\nenable_cpu_affinity: false\nmachine_rank: 0\n"
        "mixed_precision: 'no'\nnum_machines: 1\nnum_processes: 1\nrdzv_backend: static\n"
        "use_cpu: true\n");
  home.refuses("config_default_exists", {"default"});
  CHECK(home.config({"default", "--overwrite", "--mixed-precision", "bf16"}).exit_code == 0);
  CHECK(value_in(home, "mixed_precision") == "bf16");
  home.refuses("config_default_precision", {"default", "--overwrite", "--mixed_precision=f16"});
  CHECK(value_in(home, "mixed_precision") == "bf16");
  CHECK(home.files() == std::vector<std::string>{"default_config.yaml"});
}

TEST_CASE("config set: changes values, by key alone or with its section; refuses the rest") {
  const Home home;
  CHECK(home.config({"set", "num_processes=4", "zero_stage=2", "fsdp_config.version=2",
                     "offload_param_device=cpu", "rdzv_id=a b", "debug=yes"})
            .exit_code == 0);
  CHECK(read_text(home.path()) ==
        "debug: true\ndeepspeed_config:\n  offload_param_device: cpu\n  zero_stage: 2\n"
        "fsdp_config:\n  fsdp_version: 2\nnum_processes: 4\nrdzv_id: 'a b'\n");
  CHECK(home.config({"set", "num_processes=", "zero_stage=null", "rdzv_id=x"}).exit_code == 0);
  CHECK(read_text(home.path()) ==
        "debug: true\ndeepspeed_config:\n  offload_param_device: cpu\n"
        "fsdp_config:\n  fsdp_version: 2\nrdzv_id: x\n");
  const std::string before = read_text(home.path());
  home.refuses("config_set_unknown", {"set", "num_proceses=4"});
  home.refuses("config_set_unknown_nested", {"set", "deepspeed_config.zero_stag=4"});
  home.refuses("config_set_section", {"set", "deepsped_config.zero_stage=4"});
  home.refuses("config_set_value", {"set", "zero_stage=7"});
  home.refuses("config_set_part", {"set", "nproc=2"});
  home.refuses("config_set_whole_section", {"set", "fsdp_config=2"});
  home.refuses("config_set_legacy", {"set", "fp16=true"});
  home.refuses("config_set_twice", {"set", "nnodes=2", "num_machines=3"});
  home.refuses("config_set_nothing", {"set"});
  home.refuses("config_set_no_value", {"set", "zero_stage"});
  home.refuses("config_set_contradiction", {"set", "num_processes=2", "nproc_per_node=3"});
  CHECK(read_text(home.path()) == before);  // all or nothing
  // One option under another name takes the place of the other.
  home.write("num_machines: 2\nfp16: true\nfsdp_config:\n  version: 1\n");
  CHECK(home.config({"set", "nnodes=3", "mixed_precision=bf16", "fsdp_version=2"}).exit_code == 0);
  CHECK(read_text(home.path()) ==
        "nnodes: 3\nmixed_precision: bf16\nfsdp_config:\n  fsdp_version: 2\n");
}

TEST_CASE("config set and update: another file, as YAML or JSON, behind a link, with its mode") {
  const Home home;
  const std::string json = home.folder / "a.json", link = home.folder / "link.yaml",
                    target = home.folder / "deep/target.yaml";
  CHECK(home.config({"set", "--config_file", json, "use_cpu=true", "grace=2.5", "zero_stage=1"})
            .exit_code == 0);
  CHECK(read_text(json) ==
        "{\n  \"deepspeed_config\": {\n    \"zero_stage\": 1\n  },\n  \"grace\": 2.5,\n"
        "  \"use_cpu\": true\n}\n");
  CHECK(load_config(json).settings.size() == 3);
  std::filesystem::create_directories(home.folder / "deep");
  std::ofstream(target) << "grace: 1\n";
  ::chmod(target.c_str(), 0640);
  std::filesystem::create_symlink(target, link);
  CHECK(home.config({"set", "--config-file=" + link, "grace=3"}).exit_code == 0);
  CHECK(std::filesystem::is_symlink(link));
  CHECK(read_text(target) == "grace: 3\n");
  struct stat info {};
  REQUIRE(::stat(target.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
  CHECK(home.files().empty());
}

TEST_CASE("config update: today's form, nothing lost") {
  const Home home;
  home.write(
      "compute_environment: LOCAL_MACHINE\nfp16: true\nfsdp_config:\n  version: 2\n"
      "deepspeed_config: {}\nmain_process_ip: null\ntpu_env: [A=b]\nnum_processes: 2\n");
  const auto result = home.config({"update"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("fp16 -> mixed_precision\n") != std::string::npos);
  CHECK(result.out.find("version -> fsdp_version\n") != std::string::npos);
  CHECK(result.err.find("keys without a meaning here: compute_environment, tpu_env\n") !=
        std::string::npos);
  CHECK(
      read_text(home.path()) ==
      "compute_environment: LOCAL_MACHINE\nmixed_precision: fp16\nfsdp_config:\n  fsdp_version: 2\n"
      "tpu_env: [A=b]\nnum_processes: 2\n");
  const std::string before = read_text(home.path());
  CHECK(home.config({"update"}).exit_code == 0);
  CHECK(read_text(home.path()) == before);
  const Home empty;
  empty.refuses("config_update_nothing", {"update"});
  for (const char* name : {"cpu2", "deepspeed3", "fsdp2", "gpu8-bf16"}) {
    const std::string copy = home.folder / "copy.yaml";
    std::filesystem::copy_file(kConfigs + name + ".yaml", copy,
                               std::filesystem::copy_options::overwrite_existing);
    CHECK(home.config({"update", "--config_file", copy}).exit_code == 0);
    CHECK(read_text(copy) == read_text(kConfigs + name + ".yaml"));
  }
}

TEST_CASE("config show: values with their places, all of them with --resolved") {
  const Home home;
  home.write("num_processes: 2\nfsdp_config:\n  version: 2\nsame_network: true\n");
  const auto shown = home.config({"show"});
  CHECK(shown.exit_code == 0);
  CHECK(shown.out == "# " + home.path() + "\nnum_processes             2  " + home.path() +
                         ":1:1\nfsdp_config.fsdp_version  2  " + home.path() + ":3:3\n");
  CHECK(shown.err == "launcher: " + home.path() + ": keys without a meaning here: same_network\n");
  const auto all = run_process(
      {kLauncher, "config", "show", "--resolved", "-n", "3"},
      {.env = {home.variable(), "WEFT_CONFIG_FILE", "WEFT_GRACE=4", "WEFT_MIXED_PRECISION"}});
  CHECK(all.exit_code == 0);
  const auto has = [&](const std::string& name, const std::string& value,
                       const std::string& origin) {
    const std::string line = "\n" + name + std::string(29 - name.size(), ' ') + value;
    const size_t at = all.out.find(line);
    CHECK_MESSAGE(at != std::string::npos, name << " in:\n" << all.out);
    if (at == std::string::npos) return;
    const std::string rest = all.out.substr(at + 1, all.out.find('\n', at + 1) - at - 1);
    CHECK_MESSAGE(rest.ends_with("  " + origin), rest);
  };
  has("nproc_per_node", "3", "-n");
  has("num_processes", "2", home.path() + ":1:1");
  has("grace", "4", "WEFT_GRACE=4");
  has("fsdp_version", "2", home.path() + ":3:3");
  has("rdzv_backend", "static", "default");
  home.refuses("config_show_program", {"show", "--resolved", "./program"});
  home.refuses("config_show_option", {"show", "--resolved", "--nprocs", "2"});
  home.refuses("config_show_word", {"show", "all"});
}

TEST_CASE("config show: a value is on one line, whatever its bytes") {
  const Home home;
  CHECK(home.config({"set", "log_dir=a\nb\x1b[1m"}).exit_code == 0);
  CHECK(home.config({"show"}).out.find("log_dir  a\\x0ab\\x1b[1m  ") != std::string::npos);
  const auto resolved = home.config({"show", "--resolved", "--ssh", "a\tb"});
  CHECK(resolved.out.find("a\\x0ab\\x1b[1m ") != std::string::npos);
  CHECK(resolved.out.find(" a\\x09b ") != std::string::npos);
}

TEST_CASE("config show --resolved: the files that Accelerate wrote, as docs/launching.md says") {
  const Home home;
  std::string table;
  for (const char* name : {"cpu2", "deepspeed3", "fsdp2", "gpu8-bf16"}) {
    const std::string file = kConfigs + name + ".yaml";
    const auto result =
        run_process({kLauncher, "config", "show", "--resolved", "--config_file", file},
                    {.env = {home.variable(), "WEFT_CONFIG_FILE", "WEFT_NUM_THREADS"}});
    CHECK(result.exit_code == 0);
    CHECK(count_of(result.err, "\n") == 1);
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      const size_t at = line.find(file + ":");
      if (line.starts_with("#") || at == std::string::npos) continue;
      const std::string key = line.substr(0, line.find(' '));
      const size_t value = line.find_first_not_of(' ', key.size());
      const std::string text = line.substr(value, line.find(' ', value) - value);
      table += std::string("| ") + name + ".yaml:" + line.substr(at + file.size() + 1) + " | `" +
               key + "` | " + text + " |\n";
    }
  }
  const std::string page = read_text(WEFT_SOURCE_ROOT "/docs/launching.md");
  CHECK_MESSAGE(page.find(table) != std::string::npos, "docs/launching.md lacks:\n" << table);
}

TEST_CASE("docs/options.md is the table of options") {
  std::string table =
      "| Option | Variables | Keys | Default | Meaning |\n| --- | --- | --- | --- | --- |\n";
  const auto words = [](const std::vector<std::string>& all, const std::string& before) {
    std::string text;
    for (const std::string& word : all) {
      const std::string dashes = before.empty() ? "" : word.size() == 1 ? "-" : "--";
      text += (text.empty() ? "`" : ", `") + dashes + word + "`";
    }
    return text;
  };
  for (const Option& option : option_table()) {
    std::string help = option.help;
    if (option.kind == Kind::choice) help += std::string("; ") + option.range;
    if (option.later != nullptr) help += " (later)";
    table += "| " + words(names_of(option), "--") + " | " + words(variables_of(option), "") +
             " | " + words(keys_of(option), "") + " | " + option.initial + " | " +
             replaced(help, "|", ", ") + " |\n";
  }
  const std::string path = WEFT_SOURCE_ROOT "/docs/options.md";
  std::string page = read_text(path);
  const size_t start = page.find("| Option |");
  REQUIRE(start != std::string::npos);
  if (std::getenv("WEFT_UPDATE_ERRORS") != nullptr && page.substr(start) != table) {
    page = page.substr(0, start) + table;
    std::ofstream(path) << page;
  }
  CHECK_MESSAGE(page.substr(start) == table, "run launcher_tests with WEFT_UPDATE_ERRORS=1");
}

TEST_CASE("config validate: exit code 2 with the place, 0 with what cannot be started yet") {
  const Home home;
  for (const char* name : {"cpu2", "deepspeed3", "fsdp2", "gpu8-bf16"}) {
    const auto result = home.config({"validate", "--config_file", kConfigs + name + ".yaml"});
    CHECK(result.exit_code == 0);
    CHECK(result.out.starts_with(kConfigs + name + ".yaml: valid\n"));
    CHECK((result.out.find("cannot be started with it yet") == std::string::npos) ==
          (std::string(name) == "cpu2"));
  }
  home.write("deepspeed_config:\n  zero_stage: 2\n  offload_optimizer_devic: cpu\n");
  home.refuses("config_validate_nested", {"validate"});
  home.write("nproc_per_node: 2\nnum_processes: 4\n");
  home.refuses("config_validate_contradiction", {"validate", home.path()});
  home.refuses("config_validate_missing", {"validate", "/no/such/file.yaml"});
  // A bad file does not keep the others from being looked at.
  const auto many =
      home.config({"validate", "/no/such/file.yaml", home.path(), kConfigs + "cpu2.yaml"});
  CHECK(many.exit_code == 2);
  CHECK(many.out == kConfigs + "cpu2.yaml: valid\n");
  CHECK(count_of(many.err, "/no/such/file.yaml") == 1);
  CHECK(count_of(many.err, home.path() + ":1:17: ") == 1);
  // What the environment says has nothing to do with the file.
  home.write("num_processes: 2\n");
  CHECK(run_process({kLauncher, "config", "validate"},
                    {.env = {home.variable(), "WEFT_CONFIG_FILE", "WEFT_GRACE=soon"}})
            .exit_code == 0);
}

TEST_CASE("config: usage") {
  const Home home;
  const auto help = home.config({"--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.out.find("launcher config set KEY=VALUE") != std::string::npos);
  CHECK(run_process({kLauncher, "help", "config"}).out == help.out);
  home.refuses("config_unknown_action", {"defualt"});
  home.refuses("config_unknown_option", {"set", "--force", "a=b"});
  home.refuses("config_option_value", {"set", "--config_file"});
  const auto homeless =
      run_process({kLauncher, "config", "default"},
                  {.env = {"HOME", "WEFT_HOME", "XDG_CACHE_HOME", "WEFT_CONFIG_FILE"}});
  CHECK(homeless.exit_code == 2);
  CHECK(homeless.err.find("HOME is not set") != std::string::npos);
  const auto resolved =
      run_process({kLauncher, "config", "show", "--resolved"},
                  {.env = {"HOME", "WEFT_HOME", "XDG_CACHE_HOME", "WEFT_CONFIG_FILE"}});
  CHECK(resolved.exit_code == 0);  // as a launch would go without a file
  home.refuses("config_file_none", {"set", "--config_file", "none", "grace=3"});
  home.refuses("config_file_empty", {"set", "--config_file=", "grace=3"});
}

TEST_CASE("config: answers by lines, where there is no terminal") {
  const Home home;
  // type, hosts, ranks, threads, binding, precision, accumulation, partition, restarts, logs, debug
  const auto result = home.config({}, "1\n\n3\n2\ncore\n\nx\n4\n1\n\n\n2\n");
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("x: a whole number of 1 or more") != std::string::npos);
  CHECK(value_in(home, "distributed_type") == "MULTI_CPU");
  CHECK(value_in(home, "num_processes") == "3");
  CHECK(value_in(home, "num_cpu_threads_per_process") == "2");
  CHECK(value_in(home, "bind") == "core");
  CHECK(value_in(home, "gradient_accumulation_steps") == "4");
  CHECK(value_in(home, "debug") == "true");
  CHECK(value_in(home, "use_cpu") == "true");
  // What the file says is the default of the next time.
  const std::string before = read_text(home.path());
  CHECK(home.config({}, std::string(11, '\n')).exit_code == 0);
  CHECK(read_text(home.path()) == before);
  // An input that ends early writes nothing.
  const auto early = home.config({}, "2\n");
  CHECK(early.exit_code == 2);
  CHECK(early.err == "launcher: the input ended before the questions did; nothing is written\n");
  CHECK(read_text(home.path()) == before);
  CHECK(home.files() == std::vector<std::string>{"default_config.yaml"});
}

TEST_CASE("config: hosts, ZeRO and sharding by lines") {
  const Home home;
  // Two hosts by hand, ZeRO 3 with both states elsewhere.
  auto result = home.config(
      {}, "1\n2\n1\n1\nnode0\n\n8\nnone\n1\n1\n1\nzero\n3\nnvme\n/fast\ncpu\n1.0\n0\nnone\n1\n");
  CHECK(result.exit_code == 0);
  CHECK(value_in(home, "nnodes") == "2");
  CHECK(value_in(home, "node_rank") == "1");
  CHECK(value_in(home, "main_process_ip") == "node0");
  CHECK(value_in(home, "main_process_port") == "29500");
  CHECK(value_in(home, "distributed_type") == "DEEPSPEED");
  CHECK(value_in(home, "zero_stage") == "3");
  CHECK(value_in(home, "offload_optimizer_nvme_path") == "/fast");
  CHECK(value_in(home, "offload_param_device") == "cpu");
  CHECK(value_in(home, "gradient_clipping") == "1.0");
  // Then through ssh, with fsdp keys: the others go.
  result =
      home.config({}, "1\n2\nssh\nhosts.txt\n8\nnone\n1\n1\n1\nfsdp\n\n\n2\n1e6\n2\n0\nnone\n1\n");
  CHECK(result.exit_code == 0);
  CHECK(value_in(home, "hostfile") == "hosts.txt");
  CHECK(value_in(home, "node_rank").empty());
  CHECK(value_in(home, "distributed_type") == "FSDP");
  CHECK(value_in(home, "zero_stage").empty());
  CHECK(value_in(home, "fsdp_min_num_params") == "1e6");
  CHECK(value_in(home, "fsdp_activation_checkpointing") == "true");
  // GPUs.
  result = home.config({}, "3\n0,1\n1\n2\nnone\n1\n2\n1\nno\n0\nnone\n1\n");
  CHECK(result.exit_code == 0);
  CHECK(value_in(home, "gpu_ids") == "0,1");
  CHECK(value_in(home, "use_cpu") == "false");
  CHECK(value_in(home, "mixed_precision") == "bf16");
}

TEST_CASE("config: questions on a terminal, with arrow keys and with numbers") {
  const Home home;
  PseudoTerminal terminal({kLauncher, "config"}, {home.variable()});
  const termios before = terminal.modes();
  terminal.wait_for("What does training run on?");
  terminal.wait_for("> 1) several ranks on CPUs");
  terminal.send("\x1b[B");  // down
  terminal.wait_for("> 2) one process");
  terminal.send("\x1b[A");  // up
  terminal.wait_for("> 1) several ranks on CPUs");
  terminal.send("\x1b[A");  // round to the last
  terminal.wait_for("> 3) several ranks on GPUs");
  terminal.send("\x1bOB");
  terminal.wait_for("> 1) several ranks");
  terminal.send("9\x1b[5~x");  // no such number, a key without a meaning, a letter
  terminal.send("\r");
  terminal.wait_for("What does training run on? \x1b[36mMULTI_CPU");
  terminal.wait_for("How many hosts?");
  terminal.wait_for("[1]: ");
  terminal.send("\r");
  terminal.wait_for("How many ranks over all hosts?");
  terminal.wait_for("]: ");
  terminal.send("many\r");
  terminal.wait_for("many: the number of ranks is a whole number");
  terminal.wait_for("]: ");
  terminal.send("5\r");
  terminal.wait_for("How many threads");
  terminal.wait_for("]: ");
  terminal.send("\r");
  terminal.wait_for("cores of their own?");
  terminal.wait_for("3) each on one NUMA node");
  terminal.send("2");  // a number is an answer
  terminal.wait_for("\x1b[36mcore");
  terminal.wait_for("Which precision");
  terminal.wait_for("4) fp8");
  terminal.send("j\r");
  terminal.wait_for("\x1b[36mbf16");
  terminal.wait_for("How many micro-batches");
  terminal.send("\r");
  terminal.wait_for("partitioned over the ranks?");
  terminal.wait_for("3) sharded");
  terminal.send("1");
  terminal.wait_for("start anew?");
  terminal.send("3\r");
  terminal.wait_for("Which folder");
  terminal.send("\r");
  terminal.wait_for("log more?");
  terminal.wait_for("2) yes");
  terminal.send("\x1b[F\r");  // End
  terminal.wait_for("is written.");
  CHECK(terminal.finish() == 0);
  const termios after = terminal.modes();
  CHECK(after.c_lflag == before.c_lflag);
  CHECK(value_in(home, "num_processes") == "5");
  CHECK(value_in(home, "bind") == "core");
  CHECK(value_in(home, "mixed_precision") == "bf16");
  CHECK(value_in(home, "max_restarts") == "3");
  CHECK(value_in(home, "debug") == "true");
}

TEST_CASE("config: a terminal that is too narrow for menus asks by lines") {
  const Home home;
  PseudoTerminal terminal({kLauncher, "config"}, {home.variable(), "TERM=xterm"}, 20);
  terminal.wait_for("1) several ranks on CPUs");
  terminal.wait_for("[1]: ");
  CHECK(terminal.output().find('\x1b') == std::string::npos);
  terminal.send("\x03");
  CHECK(terminal.finish() == 130);
}

TEST_CASE("config: Ctrl-C leaves the terminal and the file as they were") {
  const Home home;
  home.write("num_processes: 7\n");
  for (const bool in_menu : {true, false}) {
    PseudoTerminal terminal({kLauncher, "config"}, {home.variable()}, 30);
    const termios before = terminal.modes();
    terminal.wait_for("3) several");
    if (!in_menu) {
      terminal.send("1");
      terminal.wait_for("How many hosts?");
      terminal.wait_for("[1]: ");
      terminal.send("4");
    }
    terminal.send("\x03");
    CHECK(terminal.finish() == 130);
    CHECK(terminal.output().find("nothing is written") != std::string::npos);
    CHECK(terminal.modes().c_lflag == before.c_lflag);
    CHECK(read_text(home.path()) == "num_processes: 7\n");
    CHECK(home.files() == std::vector<std::string>{"default_config.yaml"});
    // No line of the menu is wider than the terminal.
    CHECK(terminal.output().find("several ranks on GPUs (in") == std::string::npos);
  }
  PseudoTerminal ends({kLauncher, "config"}, {home.variable()});
  ends.wait_for("3) several");
  ends.send("\x04");  // Ctrl-D
  CHECK(ends.finish() == 2);
  CHECK(read_text(home.path()) == "num_processes: 7\n");
}

TEST_CASE("config files are written whole: a reader sees the old one or the new one") {
  const Home home;
  const std::string path = home.path();
  const std::string versions[2] = {"num_processes: 1\n" + std::string(20'000, '#') + "\n",
                                   "num_processes: 2\n" + std::string(30'000, '#') + "\n"};
  write_atomically(path, versions[0]);
  std::atomic<bool> stop = false;
  int odd = 0, seen = 0;
  std::thread reader([&] {
    while (!stop) {
      const std::string text = read_text(path);
      ++seen;
      if (text != versions[0] && text != versions[1]) ++odd;
    }
  });
  for (int i = 0; i < 50; ++i) write_atomically(path, versions[i % 2]);
  stop = true;
  reader.join();
  CHECK(seen > 0);
  CHECK(odd == 0);
  CHECK(home.files() == std::vector<std::string>{"default_config.yaml"});
}

TEST_CASE("config files that cannot be written leave the old one, and nothing beside it") {
  const Home home;
  home.write("num_processes: 7\n");
  const auto there = [&](std::string text) { return replaced(text, home.folder.path(), "FOLDER"); };
  check_error<LaunchError>(
      "config_write_folder", [&] { write_atomically(home.folder / "cache", "x"); }, there);
  check_error<LaunchError>(
      "config_write_below_file", [&] { write_atomically(home.path() + "/x/y.yaml", "x"); }, there);
  // A disk that is full half-way: files may have no byte here.
  const auto full =
      run_process({"sh", "-c", "ulimit -f 0; exec '" + kLauncher + "' config set grace=1"},
                  {.env = {home.variable(), "WEFT_CONFIG_FILE"}});
  CHECK(full.exit_code == 2);
  CHECK(full.err.find("cannot be written: File too large") != std::string::npos);
  CHECK(read_text(home.path()) == "num_processes: 7\n");
  CHECK(home.files() == std::vector<std::string>{"default_config.yaml"});
}
