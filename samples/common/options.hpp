// Command lines of the training samples.
#pragma once

#include <cstdint>
#include <string>

#include <weft/core/dtype.hpp>

namespace samples {

struct TrainOptions {
  std::string text_file;  ///< train_gpt alone
  int64_t length = 0;     ///< epochs or steps
  uint64_t seed = 1;
  weft::DType precision = weft::DType::f32;
  std::string json;  ///< file for losses, accuracy, seconds; none if empty
  std::string plot;  ///< SVG file for the loss curve; none if empty
};

/// What differs between the samples.
struct TrainProgram {
  std::string description;
  std::string length_name;  ///< "epochs" or "steps"
  int64_t default_length = 1;
  bool takes_text = false;
};

/// Parses the command line. Ends the program with 0 for --help and with 2 for a wrong argument.
TrainOptions parse_options(int argc, char** argv, const TrainProgram& program);

/// Runs `train`; an exception ends the program with 1 and its text on stderr.
int run_program(const char* name, int (*train)(const TrainOptions&), const TrainOptions& options);

/// Path of a file of samples/data: in $WEFT_DATA, beside the program's build, or in the sources.
/// Throws weft::IoError with the places that were tried.
std::string find_data(const std::string& file);

}  // namespace samples
