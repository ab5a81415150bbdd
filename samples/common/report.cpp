#include "report.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <weft/core/base/error.hpp>

namespace samples {

namespace {

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) throw weft::IoError(path + " cannot be written: " + std::strerror(errno));
}

/// Means of consecutive runs, so that `count` points stand for all values.
std::vector<double> condensed(const std::vector<double>& values, size_t count) {
  if (values.size() <= count) return values;
  std::vector<double> points(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = i * values.size() / count, end = (i + 1) * values.size() / count;
    double sum = 0;
    for (size_t k = begin; k < end; ++k) sum += values[k];
    points[i] = sum / static_cast<double>(end - begin);
  }
  return points;
}

struct Range {
  double low, high;
  explicit Range(const std::vector<double>& values)
      : low(*std::min_element(values.begin(), values.end())),
        high(*std::max_element(values.begin(), values.end())) {
    if (!(high > low)) high = low + 1;
  }
  double part(double value) const { return (value - low) / (high - low); }
};

/// A character of braille dots; bit order of Unicode: left column 1, 2, 3, 7, right column 4, 5,
/// 6, 8.
std::string braille(unsigned dots) {
  const unsigned code = 0x2800 + dots;
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

}  // namespace

Progress::Progress(bool active) : active_(active), terminal_(isatty(STDOUT_FILENO) != 0) {}

Progress::~Progress() {
  if (active_ && terminal_ && width_ > 0) std::cout << std::endl;
}

void Progress::update(const std::string& text, bool milestone) {
  if (!active_) return;
  if (!terminal_) {
    if (milestone) std::cout << text << std::endl;
    return;
  }
  const std::string padding(width_ > text.size() ? width_ - text.size() : 0, ' ');
  std::cout << '\r' << text << padding << std::flush;
  width_ = text.size();
}

std::string chart(const std::vector<double>& values, int columns, int rows) {
  if (values.empty()) return "";
  constexpr unsigned kDots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
  const std::vector<double> points = condensed(values, static_cast<size_t>(columns) * 2);
  const Range range(points);
  const int height = rows * 4;
  std::vector<std::vector<unsigned>> cells(static_cast<size_t>(rows),
                                           std::vector<unsigned>(static_cast<size_t>(columns)));
  int previous = -1;
  for (size_t x = 0; x < points.size(); ++x) {
    const int y = static_cast<int>(std::lround((1 - range.part(points[x])) * (height - 1)));
    const int from = previous < 0 ? y : std::min(previous, y),
              to = previous < 0 ? y : std::max(previous, y);
    for (int dot = from; dot <= to; ++dot)
      cells[static_cast<size_t>(dot / 4)][x / 2] |= kDots[dot % 4][x % 2];
    previous = y;
  }
  std::string text;
  for (int row = 0; row < rows; ++row) {
    const double at = range.high - (range.high - range.low) * row / std::max(rows - 1, 1);
    text += row == 0 || row == rows - 1 || row == rows / 2 ? fmt::format("{:8.4f} ┤", at)
                                                           : std::string(9, ' ') + "│";
    for (const unsigned cell : cells[static_cast<size_t>(row)]) text += braille(cell);
    text += "\n";
  }
  return text +
         fmt::format("{:9}└ 1{:>{}}\n", "", fmt::format("step {}", values.size()), columns - 2);
}

void write_svg(const std::string& path, const std::string& title,
               const std::vector<double>& values) {
  constexpr double kWidth = 640, kHeight = 360, kLeft = 64, kTop = 40, kRight = 16, kBottom = 40;
  if (values.empty()) throw weft::ArgumentError("write_svg: there are no values to draw");
  const Range range(values);
  const double inner_width = kWidth - kLeft - kRight, inner_height = kHeight - kTop - kBottom;
  const auto x_of = [&](size_t i) {
    return kLeft + inner_width * static_cast<double>(i) /
                       static_cast<double>(std::max<size_t>(values.size() - 1, 1));
  };
  const auto y_of = [&](double value) { return kTop + inner_height * (1 - range.part(value)); };
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"22\" font-size=\"15\">{3}</text>\n",
      kWidth, kHeight, kLeft, title);
  for (int tick = 0; tick <= 4; ++tick) {
    const double value = range.low + (range.high - range.low) * tick / 4;
    svg += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>\n",
        kLeft, y_of(value), kWidth - kRight, y_of(value), kLeft - 6, y_of(value) + 4, value);
    const auto step = (values.size() - 1) * static_cast<size_t>(tick) / 4;
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                       x_of(step), kHeight - kBottom + 18, step + 1);
  }
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">step</text>\n",
                     kLeft + inner_width / 2, kHeight - 6);
  svg += "<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.5\" points=\"";
  for (size_t i = 0; i < values.size(); ++i)
    svg += fmt::format("{:.1f},{:.1f} ", x_of(i), y_of(values[i]));
  write_file(path, svg + "\"/>\n</svg>\n");
}

void write_json(const std::string& path, const std::vector<double>& losses,
                std::optional<double> accuracy, double seconds) {
  nlohmann::json content = {{"losses", losses}, {"accuracy", nullptr}, {"seconds", seconds}};
  if (accuracy) content["accuracy"] = *accuracy;
  write_file(path, content.dump() + "\n");
}

}  // namespace samples
