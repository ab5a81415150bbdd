// Datasets and the loader.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>
#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>
#include <weft/nn/data/data_loader.hpp>

#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using weft::test::check_error;

namespace {

/// Inputs i * 10, targets i.
data::TensorDataset numbers(int64_t n) { return {arange(n) * 10, arange(n)}; }

std::vector<int64_t> targets_of(data::DataLoader& loader) {
  std::vector<int64_t> seen;
  for (auto& [inputs, targets] : loader) {
    CHECK((inputs.to_vector<int64_t>() == (targets * 10).to_vector<int64_t>()));
    for (const int64_t t : targets.to_vector<int64_t>()) seen.push_back(t);
  }
  return seen;
}

std::vector<int64_t> sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values;
}

std::vector<int64_t> iota(int64_t n) {
  std::vector<int64_t> values(static_cast<size_t>(n));
  std::iota(values.begin(), values.end(), int64_t{0});
  return values;
}

std::string write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
  return path;
}

/// Every example throws what `fail` does.
struct ThrowingDataset : data::Dataset {
  std::function<void()> fail;
  explicit ThrowingDataset(std::function<void()> its_fail) : fail(std::move(its_fail)) {}
  int64_t size() const override { return 4; }
  data::Example get(int64_t index) const override {
    fail();
    return {tensor(static_cast<float>(index)), tensor(index)};
  }
};

template <class E>
void check_type_kept(const E& error) {
  const ThrowingDataset dataset([&] { throw error; });
  data::DataLoader loader(dataset, {.batch_size = 2, .num_workers = 2});
  try {
    loader.begin();
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& got) {
    CHECK(typeid(got) == typeid(E));
    const std::string text = got.what();
    CHECK(text.starts_with("DataLoader: worker "));
    CHECK(text.ends_with(" failed at batch 0: why"));
    if (const auto* format = dynamic_cast<const FormatError*>(&got))
      CHECK(format->code() == "E_TRUNCATED");
  }
}

/// Example `bad` fails.
struct FailingDataset : data::Dataset {
  int64_t size() const override { return 10; }
  data::Example get(int64_t index) const override {
    if (index == 5) throw ArgumentError("example 5 is broken");
    return {tensor(static_cast<float>(index)), tensor(index)};
  }
};

}  // namespace

TEST_CASE("permuted_index is a permutation, for any size") {
  for (const int64_t n : {1, 2, 3, 4, 5, 16, 17, 100, 1437}) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < n; ++i) seen.insert(data::permuted_index(3, 1, n, i));
    CHECK(static_cast<int64_t>(seen.size()) == n);
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == n - 1);
  }
  int equal = 0;
  for (int64_t i = 0; i < 1000; ++i)
    equal += data::permuted_index(3, 1, 1000, i) == data::permuted_index(3, 2, 1000, i);
  CHECK(equal < 20);
}

TEST_CASE("batches in order, shuffled, and with the last one left out") {
  const auto dataset = numbers(10);
  data::DataLoader plain(dataset, {.batch_size = 4});
  CHECK(plain.size() == 3);
  CHECK(targets_of(plain) == iota(10));
  data::DataLoader dropping(dataset, {.batch_size = 4, .drop_last = true});
  CHECK(dropping.size() == 2);
  CHECK(targets_of(dropping) == iota(8));
  data::DataLoader shuffled(dataset, {.batch_size = 4, .shuffle = true, .seed = 1});
  const auto first = targets_of(shuffled), second = targets_of(shuffled);
  CHECK(first != iota(10));
  CHECK(first != second);
  CHECK(sorted(first) == iota(10));
  shuffled.set_epoch(0);
  CHECK(targets_of(shuffled) == first);
}

TEST_CASE("workers change nothing but the time") {
  const auto dataset = numbers(101);
  data::DataLoader alone(dataset, {.batch_size = 7, .shuffle = true, .seed = 5});
  const auto expected = targets_of(alone);
  for (const int workers : {1, 3}) {
    data::DataLoader loader(dataset,
                            {.batch_size = 7, .shuffle = true, .seed = 5, .num_workers = workers});
    CHECK(targets_of(loader) == expected);
    for (auto& [inputs, targets] : loader) {
      CHECK(inputs.defined());
      break;  // leaving early joins the workers
    }
  }
}

TEST_CASE("ranks share every batch, without repetition") {
  const auto dataset = numbers(22);
  for (const bool split : {true, false}) {
    std::vector<int64_t> all;
    std::vector<int64_t> first_batch;
    for (int64_t rank = 0; rank < 2; ++rank) {
      data::DataLoader loader(dataset, {.batch_size = split ? 8 : 4, .shuffle = true, .seed = 2});
      loader.shard(rank, 2, split);
      CHECK(loader.size() == 3);
      bool first = true;
      for (auto& [inputs, targets] : loader) {
        const auto values = targets.to_vector<int64_t>();
        all.insert(all.end(), values.begin(), values.end());
        if (first) first_batch.insert(first_batch.end(), values.begin(), values.end());
        first = false;
      }
    }
    CHECK(sorted(all) == iota(22));
    data::DataLoader whole(dataset, {.batch_size = 8, .shuffle = true, .seed = 2});
    auto expected = targets_of(whole);
    expected.resize(8);
    CHECK(first_batch == expected);
  }
}

TEST_CASE("a part of a last batch may be empty") {
  const auto dataset = numbers(5);
  data::DataLoader loader(dataset, {.batch_size = 4});
  loader.shard(0, 4, true);
  std::vector<int64_t> sizes;
  for (auto& [inputs, targets] : loader) sizes.push_back(inputs.size(0));
  CHECK(sizes == std::vector<int64_t>{1, 0});
}

TEST_CASE("transforms draw the same numbers for any number of ranks and workers") {
  const data::TensorDataset dataset(zeros({12, 1}), arange(12));
  const auto transform = [](data::Example example, data::ExampleRandom& random) {
    return data::Example{example.inputs + random.uniform(), example.targets};
  };
  const auto run = [&](int workers, int64_t world) {
    std::vector<float> values(12);
    for (int64_t rank = 0; rank < world; ++rank) {
      data::DataLoader loader(dataset, {.batch_size = 4,
                                        .shuffle = true,
                                        .seed = 9,
                                        .num_workers = workers,
                                        .transform = transform});
      loader.shard(rank, world, true);
      for (auto& [inputs, targets] : loader) {
        const auto drawn = inputs.flatten().to_vector<float>();
        const auto ids = targets.to_vector<int64_t>();
        for (size_t i = 0; i < ids.size(); ++i) values[static_cast<size_t>(ids[i])] = drawn[i];
      }
    }
    return values;
  };
  const auto expected = run(0, 1);
  CHECK(std::set<float>(expected.begin(), expected.end()).size() == 12);
  CHECK(run(2, 1) == expected);
  CHECK(run(1, 2) == expected);
}

TEST_CASE("CSV files") {
  const test::TempDir folder;
  const std::string path = (folder / "numbers.csv").string();
  write(path, "a,b,label\n1,2.5,7\r\n-3, 4e1 ,8\n\n");
  const data::CsvDataset dataset(path, {.header = true});
  CHECK(dataset.inputs().to_vector<float>() == std::vector<float>{1, 2.5f, -3, 40});
  CHECK(dataset.targets().to_vector<int64_t>() == std::vector<int64_t>{7, 8});
  const data::CsvDataset first(path, {.header = true, .label_column = 0});
  CHECK(first.targets().to_vector<int64_t>() == std::vector<int64_t>{1, -3});
  const auto clean = [&](std::string text) {
    return test::replaced(text, folder.path().string(), "FOLDER");
  };
  check_error<FormatError>(
      "csv_ragged", [&] { data::read_csv(write(path, "1,2,3\n4,5\n")); }, clean);
  check_error<FormatError>(
      "csv_no_number", [&] { data::read_csv(write(path, "1,2,3\n4,x5,6\n")); }, clean);
  check_error<FormatError>(
      "csv_empty", [&] { data::read_csv(write(path, "\n")); }, clean);
  check_error<IoError>(
      "csv_missing", [&] { data::read_csv((folder / "none.csv").string()); }, clean);
  check_error<ArgumentError>(
      "csv_label_column", [&] { data::CsvDataset(write(path, "1,2\n"), {.label_column = 5}); },
      clean);
  check_error<ArgumentError>(
      "csv_one_column", [&] { data::CsvDataset(write(path, "1\n2\n")); }, clean);
}

TEST_CASE("text files") {
  const test::TempDir folder;
  const std::string path = write((folder / "text.txt").string(), "abcabd");
  const data::TextDataset dataset(path, {.block_size = 3});
  CHECK(dataset.vocabulary_size() == 4);
  CHECK(dataset.size() == 3);
  CHECK(dataset.get(1).inputs.to_vector<int64_t>() == std::vector<int64_t>{1, 2, 0});
  CHECK(dataset.get(1).targets.to_vector<int64_t>() == std::vector<int64_t>{2, 0, 1});
  CHECK(dataset.decode(dataset.encode("dab")) == "dab");
  const data::TextDataset bytes(path, {.block_size = 2, .bytes = true});
  CHECK(bytes.get(0).inputs.to_vector<int64_t>() == std::vector<int64_t>{97, 98});
  CHECK(bytes.vocabulary_size() == 256);
  const auto clean = [&](std::string text) {
    return test::replaced(text, folder.path().string(), "FOLDER");
  };
  check_error<ArgumentError>("text_unknown_byte", [&] { dataset.encode("x"); });
  const int64_t too_high = 9;
  check_error<ArgumentError>("text_unknown_token", [&] { dataset.decode({&too_high, 1}); });
  check_error<ArgumentError>(
      "text_short", [&] { data::TextDataset(path, {.block_size = 6}); }, clean);
  check_error<ArgumentError>("text_block", [&] { data::TextDataset(path, {.block_size = 0}); });
}

TEST_CASE("an error of a worker keeps its type") {
  check_type_kept(ArgumentError("why"));
  check_type_kept(FormatError("E_TRUNCATED", "why"));
  check_type_kept(IoError("why"));
  check_type_kept(OutOfMemory("why"));
  check_type_kept(DeviceError("why"));
  check_type_kept(Error("why"));
  const ThrowingDataset dataset([] { throw std::length_error("too long"); });
  data::DataLoader loader(dataset, {.num_workers = 1});
  CHECK_THROWS_WITH_AS(loader.begin(), "DataLoader: worker 0 failed at batch 0: too long", Error);
}

TEST_CASE("an observer is told of a loop's end once, a failure included") {
  const FailingDataset failing;
  for (const int workers : {0, 1}) {
    data::DataLoader loader(failing, {.batch_size = 2, .num_workers = workers});
    std::vector<int64_t> told;
    loader.set_observer([&](const data::BatchInfo& info) { told.push_back(info.global_count); });
    auto at = loader.begin();
    ++at;
    CHECK_THROWS_AS(++at, ArgumentError);
    CHECK(told == std::vector<int64_t>{2, 2, 2, 0});
    CHECK(at == loader.end());
  }
}

TEST_CASE("errors of datasets and loaders") {
  const auto dataset = numbers(3);
  check_error<ArgumentError>("dataset_index", [&] { dataset.get(3); });
  check_error<ArgumentError>("dataset_sizes", [] { data::TensorDataset(zeros({2}), zeros({3})); });
  check_error<ArgumentError>("loader_batch_size",
                             [&] { data::DataLoader(dataset, {.batch_size = 0}); });
  check_error<ArgumentError>("loader_workers",
                             [&] { data::DataLoader(dataset, {.num_workers = -1}); });
  check_error<ArgumentError>("loader_prefetch",
                             [&] { data::DataLoader(dataset, {.prefetch_factor = 0}); });
  data::DataLoader loader(dataset, {.batch_size = 3});
  check_error<ArgumentError>("loader_shard", [&] { loader.shard(2, 2); });
  check_error<ArgumentError>("loader_split", [&] { loader.shard(0, 2, true); });
  data::ExampleRandom random(1, 2, 3);
  check_error<ArgumentError>("random_range", [&] { random.integer(2, 2); });

  const FailingDataset failing;
  data::DataLoader here(failing, {.batch_size = 2});
  check_error<ArgumentError>("loader_fails_here", [&] {
    for (auto& [inputs, targets] : here) CHECK(inputs.defined());
  });
  data::DataLoader there(failing, {.batch_size = 2, .num_workers = 1});
  int batches = 0;
  check_error<ArgumentError>("loader_worker_fails", [&] {
    for (auto& [inputs, targets] : there) batches += inputs.defined();
  });
  CHECK(batches == 2);
}
