// What the training samples show: a progress line, the loss curve, a JSON file.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace samples {

/// One line that is rewritten on a terminal; elsewhere a line for each `milestone`.
class Progress {
 public:
  explicit Progress(bool active);
  ~Progress();
  void update(const std::string& text, bool milestone);

 private:
  bool active_;
  bool terminal_;
  size_t width_ = 0;
};

/// The curve as text, `columns` x `rows` characters (braille dots), with a scale.
std::string chart(const std::vector<double>& values, int columns = 64, int rows = 10);

/// The curve as an SVG file. Throws weft::IoError.
void write_svg(const std::string& path, const std::string& title,
               const std::vector<double>& values);

/// {"losses": [...], "accuracy": ..., "seconds": ...}. Throws weft::IoError.
void write_json(const std::string& path, const std::vector<double>& losses,
                std::optional<double> accuracy, double seconds);

}  // namespace samples
