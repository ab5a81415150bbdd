// Datasets: numbered examples.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <weft/core/tensor.hpp>

namespace weft::inline v0::data {

/// What a model is given and what it should answer: one example, or a batch of them with the batch
/// as first dim. `for (auto& [inputs, targets] : loader)` takes it apart.
struct Example {
  Tensor inputs;
  Tensor targets;
};

/// Examples 0 … size()-1. `get` and `batch` may be called from several threads at once.
class WEFT_API Dataset {
 public:
  virtual ~Dataset();
  virtual int64_t size() const = 0;
  /// Example `index`. Throws ArgumentError out of range.
  virtual Example get(int64_t index) const = 0;
  /// Several examples, stacked. A dataset overrides it where it can do better than one by one.
  virtual Example batch(std::span<const int64_t> indices) const;

 protected:
  /// Throws ArgumentError unless 0 <= index < size().
  void check_index(const char* dataset, int64_t index) const;
};

/// Rows of two tensors with equal first sizes.
class WEFT_API TensorDataset : public Dataset {
 public:
  /// Throws ArgumentError where the first sizes differ.
  TensorDataset(Tensor inputs, Tensor targets);
  int64_t size() const override;
  Example get(int64_t index) const override;
  Example batch(std::span<const int64_t> indices) const override;
  const Tensor& inputs() const { return inputs_; }
  const Tensor& targets() const { return targets_; }

 private:
  Tensor inputs_, targets_;
};

struct CsvOptions {
  char delimiter = ',';
  bool header = false;        ///< the first line has names
  int64_t label_column = -1;  ///< negative ones count from the back
};

/// All numbers of a CSV file, f64 [lines, columns]. Throws IoError where it cannot be read and
/// FormatError (E_CSV) with file, line and column for a ragged row or a field that is no number.
WEFT_API Tensor read_csv(const std::string& path, const CsvOptions& options = {});

/// A CSV file: the label column as i64 targets, the others as f32 inputs [columns - 1].
class WEFT_API CsvDataset : public TensorDataset {
 public:
  explicit CsvDataset(const std::string& path, const CsvOptions& options = {});
};

struct TextOptions {
  int64_t block_size = 128;  ///< tokens of one example
  bool bytes = false;  ///< tokens are byte values (256 of them), not the file's own characters
};

/// A text file as blocks of tokens: example i has tokens i … i + block_size - 1 as inputs (i64) and
/// those one place further as targets. Tokens are the distinct bytes of the file, in order, unless
/// `bytes` is set. Throws IoError, and ArgumentError for a text shorter than a block.
class WEFT_API TextDataset : public Dataset {
 public:
  explicit TextDataset(const std::string& path, const TextOptions& options = {});
  int64_t size() const override;
  Example get(int64_t index) const override;

  int64_t vocabulary_size() const { return static_cast<int64_t>(symbols_.size()); }
  const Tensor& tokens() const { return tokens_; }
  /// Throws ArgumentError for a byte that the file does not have.
  std::vector<int64_t> encode(const std::string& text) const;
  std::string decode(std::span<const int64_t> tokens) const;

 private:
  int64_t block_size_;
  std::string symbols_;  ///< token -> byte
  std::vector<int64_t> token_of_byte_;
  Tensor tokens_;
};

}  // namespace weft::inline v0::data
