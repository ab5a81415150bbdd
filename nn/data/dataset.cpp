#include <weft/nn/data/dataset.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>

#include <weft/autograd/autograd.hpp>
#include <weft/core/base/check.hpp>
#include <weft/core/ops.hpp>

namespace weft::inline v0::data {

namespace {

std::string read_file(const char* reader, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  WEFT_CHECK(IoError, file.is_open(), "{}: {} cannot be opened: {}", reader, path,
             std::strerror(errno));
  std::string text;
  char block[65536];
  while (file.read(block, sizeof block), file.gcount() > 0)
    text.append(block, static_cast<size_t>(file.gcount()));
  WEFT_CHECK(IoError, !file.bad(), "{}: {} cannot be read: {}", reader, path, std::strerror(errno));
  return text;
}

/// Splits a CSV line by line into numbers.
class CsvParser {
 public:
  CsvParser(const std::string& path, const CsvOptions& options) : path_(path), options_(options) {}

  void parse(std::string_view text) {
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      ++line_;
      if (line.empty() || (line_ == 1 && options_.header)) continue;
      parse_line(line);
    }
  }

  std::vector<double> values;
  int64_t rows = 0, columns = 0;

 private:
  void parse_line(std::string_view line) {
    int64_t count = 0;
    size_t start = 0;
    while (true) {
      const size_t end = std::min(line.find(options_.delimiter, start), line.size());
      values.push_back(parse_field(line.substr(start, end - start), start));
      ++count;
      if (end == line.size()) break;
      start = end + 1;
    }
    if (rows == 0) columns = count;
    if (count != columns)
      throw FormatError("E_CSV", fmt::format("{}:{}:1: the row has {} fields, the first one has {}",
                                             path_, line_, count, columns));
    ++rows;
  }

  double parse_field(std::string_view field, size_t start) const {
    while (!field.empty() && field.front() == ' ') field.remove_prefix(1);
    while (!field.empty() && field.back() == ' ') field.remove_suffix(1);
    double value = 0;
    const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || stop != field.data() + field.size())
      throw FormatError(
          "E_CSV", fmt::format("{}:{}:{}: \"{}\" is no number", path_, line_, start + 1, field));
    return value;
  }

  const std::string& path_;
  const CsvOptions& options_;
  int64_t line_ = 0;
};

int64_t label_column(const Tensor& table, const CsvOptions& options, const std::string& path) {
  const int64_t columns = table.size(1);
  WEFT_CHECK(ArgumentError, columns >= 2,
             "CsvDataset: {} has {} columns; labels and inputs need two", path, columns);
  WEFT_CHECK(ArgumentError, options.label_column >= -columns && options.label_column < columns,
             "CsvDataset: label column {} is not among the {} columns of {}", options.label_column,
             columns, path);
  return options.label_column < 0 ? options.label_column + columns : options.label_column;
}

Tensor csv_inputs(const Tensor& table, int64_t label) {
  const int64_t columns = table.size(1);
  return cat({table.slice(1, 0, label), table.slice(1, label + 1, columns)}, 1).to(DType::f32);
}

}  // namespace

Dataset::~Dataset() = default;

void Dataset::check_index(const char* dataset, int64_t index) const {
  WEFT_CHECK(ArgumentError, index >= 0 && index < size(), "{}: there is no example {}; it has {}",
             dataset, index, size());
}

Example Dataset::batch(std::span<const int64_t> indices) const {
  std::vector<Tensor> inputs, targets;
  for (const int64_t index : indices) {
    Example example = get(index);
    inputs.push_back(std::move(example.inputs));
    targets.push_back(std::move(example.targets));
  }
  WEFT_CHECK(ArgumentError, !inputs.empty(), "Dataset: a batch of no examples");
  return {stack(inputs), stack(targets)};
}

TensorDataset::TensorDataset(Tensor inputs, Tensor targets)
    : inputs_(std::move(inputs)), targets_(std::move(targets)) {
  WEFT_CHECK(ArgumentError,
             inputs_.dim() > 0 && targets_.dim() > 0 && inputs_.size(0) == targets_.size(0),
             "TensorDataset: inputs {} and targets {} have different first sizes",
             to_string(inputs_.shape()), to_string(targets_.shape()));
}

int64_t TensorDataset::size() const { return inputs_.size(0); }

Example TensorDataset::get(int64_t index) const {
  check_index("TensorDataset", index);
  return {inputs_.select(0, index), targets_.select(0, index)};
}

Example TensorDataset::batch(std::span<const int64_t> indices) const {
  for (const int64_t index : indices) check_index("TensorDataset", index);
  const NoGrad guard;
  const Tensor rows = from_host(indices.data(), {static_cast<int64_t>(indices.size())}, DType::i64,
                                inputs_.device());
  const Tensor target_rows = rows.to(targets_.device());
  return {index_select(inputs_, 0, rows), index_select(targets_, 0, target_rows)};
}

Tensor read_csv(const std::string& path, const CsvOptions& options) {
  const std::string text = read_file("read_csv", path);
  CsvParser parser(path, options);
  parser.parse(text);
  if (parser.rows == 0) throw FormatError("E_CSV", path + ":1:1: the file has no rows");
  return from_host(parser.values.data(), {parser.rows, parser.columns}, DType::f64);
}

CsvDataset::CsvDataset(const std::string& path, const CsvOptions& options)
    : TensorDataset([&] {
        const Tensor table = read_csv(path, options);
        const int64_t label = label_column(table, options, path);
        return TensorDataset(csv_inputs(table, label), table.select(1, label).to(DType::i64));
      }()) {}

TextDataset::TextDataset(const std::string& path, const TextOptions& options)
    : block_size_(options.block_size), token_of_byte_(256, -1) {
  WEFT_CHECK(ArgumentError, block_size_ >= 1, "TextDataset: block_size {} is below 1", block_size_);
  const std::string text = read_file("TextDataset", path);
  WEFT_CHECK(ArgumentError, static_cast<int64_t>(text.size()) > block_size_,
             "TextDataset: {} has {} bytes, fewer than a block of {} and its next one", path,
             text.size(), block_size_);
  std::vector<bool> present(256, options.bytes);
  for (const char c : text) present[static_cast<unsigned char>(c)] = true;
  for (size_t byte = 0; byte < 256; ++byte)
    if (present[byte]) {
      token_of_byte_[byte] = static_cast<int64_t>(symbols_.size());
      symbols_.push_back(static_cast<char>(byte));
    }
  const std::vector<int64_t> ids = encode(text);
  tokens_ = from_host(ids.data(), {static_cast<int64_t>(ids.size())}, DType::i64);
}

int64_t TextDataset::size() const { return tokens_.size(0) - block_size_; }

Example TextDataset::get(int64_t index) const {
  check_index("TextDataset", index);
  return {tokens_.narrow(0, index, block_size_), tokens_.narrow(0, index + 1, block_size_)};
}

std::vector<int64_t> TextDataset::encode(const std::string& text) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size());
  for (const char c : text) {
    const int64_t token = token_of_byte_[static_cast<unsigned char>(c)];
    WEFT_CHECK(ArgumentError, token >= 0, "encode: the text has byte {}, which the file has not",
               static_cast<int>(static_cast<unsigned char>(c)));
    ids.push_back(token);
  }
  return ids;
}

std::string TextDataset::decode(std::span<const int64_t> tokens) const {
  std::string text;
  for (const int64_t token : tokens) {
    WEFT_CHECK(ArgumentError, token >= 0 && token < vocabulary_size(),
               "decode: token {} is not among the {} of the vocabulary", token, vocabulary_size());
    text.push_back(symbols_[static_cast<size_t>(token)]);
  }
  return text;
}

}  // namespace weft::inline v0::data
