// The training samples as a user runs them: alone, under the launcher, and wrongly.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/tests/launcher/launched.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/process.hpp>
#include <weft/tests/support/skip.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;

namespace {

namespace fs = std::filesystem;

const std::string kDigits = WEFT_BUILD_ROOT "/samples/train_digits";
const std::string kGpt = WEFT_BUILD_ROOT "/samples/train_gpt";
const std::string kText = WEFT_SOURCE_ROOT "/LICENSE";

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Trained {
  std::vector<double> losses;
  nlohmann::json json;
  std::string last_line;  ///< without the rank before it
};

/// Runs `program` on `ranks` ranks (1: without the launcher), from a folder of its own.
Trained train(std::vector<std::string> program, int ranks) {
  CAPTURE(ranks);
  const TempDir folder;
  program.insert(program.end(), {"--json", "out.json", "--plot", "out.svg"});
  if (ranks > 1) program.insert(program.begin(), {kLauncher, "-n", std::to_string(ranks)});
  const ProcessResult run =
      run_process(program, {.folder = folder.path().string(), .env = {}, .input = {}});
  REQUIRE_MESSAGE(run.ok(), run.out << run.err);
  CHECK_MESSAGE(run.err.empty(), run.err);
  const std::string svg = content_of(folder / "out.svg");
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(svg.find("<polyline ") != std::string::npos);

  Trained result;
  result.json = nlohmann::json::parse(content_of(folder / "out.json"));
  result.losses = result.json.at("losses").get<std::vector<double>>();
  CHECK(result.json.at("seconds").get<double>() > 0);
  const std::string text = run.out.substr(0, run.out.size() - 1);
  result.last_line = text.substr(text.rfind('\n') + 1);
  if (ranks > 1) {
    CHECK(result.last_line.starts_with("[0] "));
    result.last_line.erase(0, 4);
  }
  return result;
}

void check_same_losses(const Trained& one, const Trained& many) {
  REQUIRE(one.losses.size() == many.losses.size());
  for (size_t i = 0; i < one.losses.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(many.losses[i] - one.losses[i]) <= 2e-4 * one.losses[i]);
  }
}

std::string fixed4(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

struct Wrong {
  const char* error;  ///< name in tests/goldens/errors.txt
  std::vector<std::string> command;
  int exit_code;
};

void check_wrong(const Wrong& wrong, const std::string& folder) {
  CAPTURE(wrong.error);
  const ProcessResult run = run_process(wrong.command, {.folder = folder, .env = {}, .input = {}});
  CHECK(run.exit_code == wrong.exit_code);
  std::string line = run.err.substr(0, run.err.find('\n'));
  if (line.starts_with("[")) line.erase(0, line.find(' ') + 1);  // any rank may be the first
  const std::string problem = compare_error_text(wrong.error, line);
  CHECK_MESSAGE(problem.empty(), problem);
}

}  // namespace

TEST_CASE("train_digits: the same losses alone and on 2 ranks") {
  const Trained one = train({kDigits, "--epochs", "3"}, 1);
  const Trained two = train({kDigits, "--epochs", "3"}, 2);
  CHECK(one.losses.size() == 57);
  CHECK(one.losses.back() < 0.7 * one.losses.front());
  check_same_losses(one, two);
}

TEST_CASE("train_digits: the same losses on 6 ranks of one host and on 3 hosts of 2") {
  const ProcessResult alone = run_process(
      {"env", "RANK=0", "WORLD_SIZE=2", "LOCAL_WORLD_SIZE=1", kDigits, "--epochs", "1"});
  if (alone.err.find("built without it") != std::string::npos)
    WEFT_SKIP("weft was built without gloo");
  // Ranks of different hosts share no memory and talk over the network, here the loopback one.
  const std::vector<std::string> on_hosts = {
      "sh",
      "-c",
      "export LOCAL_WORLD_SIZE=2 GROUP_WORLD_SIZE=3 LOCAL_RANK=$((RANK % 2)) "
      "GROUP_RANK=$((RANK / 2)); exec \"$@\"",
      "sh",
      kDigits,
      "--epochs",
      "6"};
  const Trained one = train({kDigits, "--epochs", "6"}, 6);
  const Trained three = train(on_hosts, 6);
  CHECK(one.losses.size() > 100);
  check_same_losses(one, three);
  for (size_t i = 0; i < 10; ++i)
    CHECK(std::abs(three.losses[i] - one.losses[i]) <= 1e-5 * one.losses[i]);
}

TEST_CASE("train_digits: held-out accuracy of at least 0.98 on 2 ranks") {
  const Trained run = train({kDigits}, 2);
  const double accuracy = run.json.at("accuracy").get<double>();
  CHECK(accuracy >= 0.98);
  CHECK(run.last_line == "held-out accuracy: " + fixed4(accuracy));
}

TEST_CASE("train_digits: seed and precision") {
  const Trained one = train({kDigits, "--epochs", "1"}, 1);
  CHECK(train({kDigits, "--epochs", "1"}, 1).losses == one.losses);
  CHECK(train({kDigits, "--epochs", "1", "--seed", "2"}, 1).losses != one.losses);
  const Trained precise = train({kDigits, "--epochs", "1", "--precision", "f64"}, 1);
  CHECK(precise.losses != one.losses);
  CHECK(precise.losses.size() == one.losses.size());
}

TEST_CASE(
    "train_digits: SIGTERM ends the training of all ranks after the same step, with a result") {
  // The launcher runs until a line of the first epoch has come, then it is asked to stop.
  const std::string script =
      "coproc \"$@\" 2>&1; pid=$COPROC_PID; exec 3<&${COPROC[0]}; "
      "read -r line <&3; echo \"$line\"; kill -TERM $pid; cat <&3; wait $pid";
  const ProcessResult run = run_process(
      {"bash", "-c", script, "bash", kLauncher, "-n", "2", kDigits, "--epochs", "100000"});
  CHECK_MESSAGE(run.exit_code == 128 + 15, run.err);
  CHECK_MESSAGE(run.out.find("stopped after ") != std::string::npos, run.out);
  CHECK_MESSAGE(run.out.find("held-out accuracy: ") != std::string::npos, run.out);
  CHECK_MESSAGE(run.out.find("SIGKILL") == std::string::npos, run.out);
}

TEST_CASE("train_gpt: the same losses alone and on 2 ranks") {
  const Trained one = train({kGpt, kText, "--steps", "12"}, 1);
  const Trained two = train({kGpt, kText, "--steps", "12"}, 2);
  CHECK(one.losses.size() == 12);
  CHECK(one.losses.back() < one.losses.front());
  CHECK(one.json.at("accuracy").is_null());
  CHECK(one.last_line == "final loss: " + fixed4(one.losses.back()));
  CHECK(two.last_line == "final loss: " + fixed4(two.losses.back()));
  check_same_losses(one, two);
}

TEST_CASE("samples: a wrong command line exits with 2, a missing file with 1") {
  const TempDir folder;
  std::ofstream(folder / "short.txt") << "abc";
  const Wrong rows[] = {
      {"sample_epochs_zero", {kDigits, "--epochs", "0"}, 2},
      {"sample_epochs_word", {kDigits, "--epochs", "many"}, 2},
      {"sample_flag", {kDigits, "--epoch", "3"}, 2},
      {"sample_precision", {kDigits, "--precision", "f8"}, 2},
      {"sample_seed", {kDigits, "--seed", "x"}, 2},
      {"sample_no_text", {kGpt}, 2},
      {"sample_two_texts", {kGpt, "a.txt", "b.txt"}, 2},
      {"sample_text_missing", {kGpt, "none.txt"}, 1},
      {"sample_text_folder", {kGpt, "."}, 1},
      {"sample_text_short", {kGpt, "short.txt"}, 1},
      {"sample_json_folder", {kDigits, "--epochs", "1", "--json", "none/out.json"}, 1},
      {"sample_batch_of_5_ranks", {kLauncher, "-n", "5", kDigits, "--epochs", "1"}, 1},
  };
  for (const Wrong& wrong : rows) check_wrong(wrong, folder.path().string());
}

TEST_CASE("samples: help is no error") {
  for (const std::string& program : {kDigits, kGpt}) {
    const ProcessResult run = run_process({program, "--help"});
    CHECK(run.ok());
    for (const char* flag : {"--seed", "--precision", "--json", "--plot"})
      CHECK(run.out.find(flag) != std::string::npos);
  }
}
