#include <weft/samples/common/options.hpp>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <weft/core/base/env.hpp>
#include <weft/core/base/error.hpp>

namespace samples {

namespace {

/// Empty for a whole number above 0, else what is wrong.
std::string above_zero(const std::string& text) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  const bool zero = text.find_first_not_of('0') == std::string::npos;
  return digits && !zero ? "" : text + " is not a whole number above 0";
}

}  // namespace

TrainOptions parse_options(int argc, char** argv, const TrainProgram& program) {
  TrainOptions options;
  options.length = program.default_length;
  std::string precision = "f32";
  CLI::App app(program.description);
  if (program.takes_text)
    app.add_option("file", options.text_file, "text file to learn from")->required();
  app.add_option("--" + program.length_name, options.length, "how long to train")
      ->check(above_zero)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "seed of weights, order and shifts")
      ->capture_default_str();
  app.add_option("--precision", precision, "dtype of weights and arithmetic")
      ->check(CLI::IsMember({"f32", "f64"}))
      ->capture_default_str();
  app.add_option("--json", options.json, "write losses, accuracy and seconds to this file");
  app.add_option("--plot", options.plot, "write the loss curve to this SVG file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  options.precision = precision == "f64" ? weft::DType::f64 : weft::DType::f32;
  return options;
}

int run_program(const char* name, int (*train)(const TrainOptions&), const TrainOptions& options) {
  try {
    return train(options);
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << std::endl;
    return 1;
  }
}

std::string find_data(const std::string& file) {
  namespace fs = std::filesystem;
  std::vector<fs::path> folders;
  if (const auto folder = weft::env::get("WEFT_DATA")) folders.emplace_back(*folder);
  std::error_code ignored;  // without /proc the other places remain
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored);
  if (!self.empty()) folders.push_back(self.parent_path() / "../../samples/data");
  folders.emplace_back(WEFT_SAMPLE_DATA);
  std::string tried;
  for (const fs::path& folder : folders) {
    if (fs::exists(folder / file)) return (folder / file).lexically_normal().string();
    tried += "\n  " + folder.lexically_normal().string();
  }
  throw weft::IoError(
      file + " is in none of these folders; set WEFT_DATA to the one that has it:" + tried);
}

}  // namespace samples
