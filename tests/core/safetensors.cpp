// Reading, writing and loading folders of safetensors.
#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <weft/core/ops.hpp>
#include <weft/tests/core/safetensors_support.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft;
using namespace weft::test;
namespace fs = std::filesystem;

namespace {

template <class T>
Tensor of(const std::vector<T>& values, const Shape& shape) {
  return from_host(values.data(), shape, dtype_of<T>);
}

const Tensor& at(const StateDict& tensors, const std::string& key) {
  for (const auto& [name, tensor] : tensors)
    if (name == key) return tensor;
  throw std::out_of_range(key);
}

Normalise without(const TempDir& folder) {
  return [&](std::string text) { return replaced(text, folder.path().string() + "/", ""); };
}

/// The smallest file with several dtypes and a scalar.
std::string small_file() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
      R"("n":{"dtype":"I64","shape":[],"data_offsets":[16,24]},)"
      R"("b":{"dtype":"BOOL","shape":[3],"data_offsets":[24,27]}})";
  return safetensors_bytes(header, std::string(26, '\1') + '\0');
}

}  // namespace

TEST_CASE("safetensors: what is written is read again, sorted and aligned") {
  const TempDir folder;
  const std::string path = folder / "all.safetensors";
  const StateDict tensors = {
      {"z.f32", of<float>({1.5f, -2.f, 0.f, 4.f, 5.f, 6.f}, {2, 3})},
      {"a.bool", from_host("\1\0\1", {3}, DType::boolean)},
      {"a.f32", of<float>({7.f}, {})},
      {"m.i64", of<int64_t>({-1, 1LL << 40}, {2})},
      {"m.f64", of<double>({0.1}, {1, 1})},
      {"empty", of<float>({}, {0, 3})},
      {"k.f16", of<float16>({float16(0.5f), float16(-3.f)}, {2})},
      {"k.bf16", of<bfloat16>({bfloat16(0.5f), bfloat16(-3.f)}, {2})},
      {"u8", of<uint8_t>({255}, {1})},
      {"i8", of<int8_t>({-128}, {1})},
      {"i16", of<int16_t>({-32768}, {1})},
      {"i32", of<int32_t>({-7}, {1})},
      {"quote \" and \xc3\xa9", of<uint8_t>({9}, {1})},
  };
  io::save_safetensors(path, tensors, {{"step", "7"}});

  const io::SafetensorsFile file(path);
  CHECK(file.metadata() == io::SafetensorsMetadata{{"format", "pt"}, {"step", "7"}});
  const std::vector<std::string> order = {"m.i64",
                                          "m.f64",
                                          "a.f32",
                                          "empty",
                                          "z.f32",
                                          "i32",
                                          "k.bf16",
                                          "k.f16",
                                          "i16",
                                          "i8",
                                          "quote \" and \xc3\xa9",
                                          "u8",
                                          "a.bool"};
  CHECK(file.keys() == order);
  for (const io::SafetensorsEntry& entry : file.entries())
    CHECK(entry.begin % 8 %
              static_cast<uint64_t>(entry.dtype.ends_with("64")   ? 8
                                    : entry.dtype.ends_with("32") ? 4
                                    : entry.dtype.ends_with("16") ? 2
                                                                  : 1) ==
          0);
  for (const auto& [key, tensor] : tensors) {
    const auto& shown = key;  // clang 14 captures no structured binding
    CAPTURE(shown);
    const Tensor read = file.tensor(key);
    CHECK(read.dtype() == tensor.dtype());
    CHECK(read.shape() == tensor.shape());
    CHECK(read.to_vector<double>() == tensor.to_vector<double>());
  }
  const std::string bytes = read_bytes(path);
  CHECK((8 + static_cast<unsigned char>(bytes[0]) + 256 * static_cast<unsigned char>(bytes[1])) %
            8 ==
        0);
  CHECK(bytes.substr(8, 40) == R"({"__metadata__":{"format":"pt","step":"7)");
}

TEST_CASE("safetensors: a mapped tensor is read-only and outlives file and reader") {
  const TempDir folder;
  const std::string path = folder / "w.safetensors";
  io::save_safetensors(path, {{"w", of<float>({1.f, 2.f}, {2})}});
  Tensor w = at(io::load_safetensors(path), "w");
  fs::remove(path);
  CHECK(w.data<float>()[1] == 2.f);
  CHECK((w.storage()->flags & kReadOnly) != 0);
  check_error<ArgumentError>("safetensors_read_only", [&] { w.mutable_data<float>(); });
  CHECK(w.clone().mutable_data<float>()[0] == 1.f);
}

TEST_CASE("safetensors: tensors read into memory can be written") {
  const TempDir folder;
  const std::string path = folder / "w.safetensors";
  io::save_safetensors(path, {{"w", of<float>({1.f, 2.f}, {2})}});
  const Tensor w = at(io::load_safetensors(path, {.map = false}), "w");
  w.mutable_data<float>()[0] = 5.f;
  CHECK(at(io::load_safetensors(path), "w").data<float>()[0] == 1.f);
}

TEST_CASE("safetensors: data at an odd place is copied") {
  const TempDir folder;
  const std::string path = folder / "odd.safetensors";
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  write_bytes(path, safetensors_bytes(header + std::string(8 - header.size() % 8 + 1, ' '),
                                      std::string("\0\0\x80\x3f", 4)));
  const Tensor w = io::SafetensorsFile(path).tensor("w");
  CHECK(w.data<float>()[0] == 1.f);
  CHECK((w.storage()->flags & kReadOnly) == 0);
}

TEST_CASE("safetensors: views, tied tensors and one-element strides are written packed") {
  const TempDir folder;
  const std::string path = folder / "views.safetensors";
  const Tensor base = of<float>({0, 1, 2, 3, 4, 5}, {2, 3});
  io::save_safetensors(path, {{"t", base.t()},
                              {"column", base.select(1, 1)},
                              {"expanded", base.slice(1, 0, 1).expand({2, 2})},
                              {"base", base},
                              {"tied", base}});
  const StateDict read = io::load_safetensors(path);
  CHECK(at(read, "t").to_vector<float>() == std::vector<float>{0, 3, 1, 4, 2, 5});
  CHECK(at(read, "column").to_vector<float>() == std::vector<float>{1, 4});
  CHECK(at(read, "expanded").to_vector<float>() == std::vector<float>{0, 0, 3, 3});
  CHECK(at(read, "tied").to_vector<float>() == at(read, "base").to_vector<float>());
  CHECK(at(read, "tied").data<float>() != at(read, "base").data<float>());
}

TEST_CASE("safetensors: what cannot be written") {
  const TempDir folder;
  const std::string path = folder / "bad.safetensors";
  const Tensor x = of<float>({1.f}, {1});
  const Normalise name = without(folder);
  check_error<ArgumentError>(
      "save_twice",
      [&] {
        io::save_safetensors(path, {{"x", x}, {"x", x}});
      },
      name);
  check_error<ArgumentError>(
      "save_reserved",
      [&] {
        io::save_safetensors(path, {{"__metadata__", x}});
      },
      name);
  check_error<ArgumentError>(
      "save_utf8",
      [&] {
        io::save_safetensors(path, {{"\xff", x}});
      },
      name);
  check_error<ArgumentError>(
      "save_metadata_utf8",
      [&] {
        io::save_safetensors(path, {}, {{"a", "\xff"}});
      },
      name);
  check_error<ArgumentError>(
      "save_undefined",
      [&] {
        io::save_safetensors(path, {{"x", Tensor()}});
      },
      name);
  check_error<DeviceError>(
      "save_meta",
      [&] {
        io::save_safetensors(path, {{"x", empty({2, 3}, {.device = Device::meta()})}});
      },
      name);
  check_error<IoError>(
      "save_no_folder",
      [&] {
        io::save_safetensors(folder / "none/x.safetensors", {{"x", x}});
      },
      [&](std::string text) { return without_digits(name(text)); });
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("safetensors: a write that fails leaves the old file whole and nothing else") {
  const TempDir folder;
  const std::string path = folder / "w.safetensors";
  io::save_safetensors(path, {{"w", of<float>({1.f, 2.f}, {2})}});
  const std::string before = read_bytes(path);

  struct rlimit previous = {};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &previous) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {4096, previous.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Tensor big = of<float>(std::vector<float>(4000, 1.f), {4000});
  CHECK_THROWS_AS(io::save_safetensors(path, {{"w", big}}), IoError);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &previous) == 0);
  std::signal(SIGXFSZ, handler);

  CHECK(read_bytes(path) == before);
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("safetensors: a mapped tensor survives a new file of the same name") {
  const TempDir folder;
  const std::string path = folder / "w.safetensors";
  io::save_safetensors(path, {{"w", of<float>({1.f, 2.f}, {2})}});
  const Tensor old = at(io::load_safetensors(path), "w");
  io::save_safetensors(path, {{"w", of<float>({3.f}, {1})}});
  CHECK(old.to_vector<float>() == std::vector<float>{1.f, 2.f});
  CHECK(at(io::load_safetensors(path), "w").to_vector<float>() == std::vector<float>{3.f});
}

TEST_CASE("safetensors: the lazy reader names what is not there") {
  const TempDir folder;
  const std::string path = folder / "small.safetensors";
  write_bytes(path, small_file());
  const io::SafetensorsFile file(path);
  CHECK(file.keys() == std::vector<std::string>{"w", "n", "b"});
  CHECK(file.entry("w").shape == std::vector<int64_t>{2, 2});
  CHECK(file.tensor("b").to_vector<int64_t>() == std::vector<int64_t>{1, 1, 0});
  check_error<ArgumentError>(
      "safetensors_no_key", [&] { file.tensor("ww"); }, without(folder));
  check_error<IoError>("safetensors_no_file", [&] { io::load_safetensors("/no/such/file"); });

  write_bytes(path,
              safetensors_bytes(
                  R"({"f8":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]},)"
                  R"("nine":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[1,2]}})",
                  "xy"));
  const io::SafetensorsFile odd(path);
  check_error<FormatError>(
      "safetensors_f8", [&] { odd.tensor("f8"); }, without(folder));
  check_error<FormatError>(
      "safetensors_rank", [&] { odd.tensor("nine"); }, without(folder));
}

TEST_CASE("safetensors: any truncation or flipped bit is an error or a valid file") {
  const TempDir folder;
  const std::string path = folder / "fuzz.safetensors";
  const std::string good = small_file();
  int accepted = 0, rejected = 0;
  const auto read = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    try {
      for (const auto& [key, tensor] : io::load_safetensors(path)) {
        // Every byte is touched.
        const auto* data = reinterpret_cast<const volatile unsigned char*>(tensor.impl()->data);
        for (int64_t i = 0; i < tensor.nbytes(); ++i) (void)data[i];
      }
      ++accepted;
    } catch (const FormatError&) {
      ++rejected;
    }
  };
  for (size_t length = 0; length < good.size(); ++length) read(good.substr(0, length));
  CHECK(accepted == 0);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    read(bytes);
  }
  CHECK(accepted >= 27 * 8);  // the data may hold anything
  CHECK(rejected > 8 * 8);
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = good;
    for (int change = 0; change < 3; ++change)
      bytes[random() % bytes.size()] = static_cast<char>(random() % 128);
    read(bytes);
  }
}

TEST_CASE("safetensors: a folder is its single file or the shards of its index") {
  const TempDir folder;
  const auto shard = [&](const char* name, const char* key, float value) {
    io::save_safetensors(folder / name, {{key, of<float>({value}, {1})}});
  };
  const auto index = [&](const std::string& map,
                         const char* name = "model.safetensors.index.json") {
    write_bytes(folder / name, R"({"metadata":{"total_size":8},"weight_map":)" + map + "}");
  };
  const auto load = [&] { return io::load_safetensors(folder.path().string()); };
  const Normalise name = without(folder);

  check_error<IoError>("folder_empty", load,
                       [&](std::string text) { return replaced(text, folder.path(), "FOLDER"); });
  write_bytes(folder / "pytorch_model.bin", "x");
  check_error<FormatError>("folder_pickle", load, [&](std::string text) {
    return replaced(text, folder.path(), "FOLDER");
  });

  shard("1.safetensors", "a", 1.f);
  shard("2.safetensors", "b", 2.f);
  index(R"({"b":"2.safetensors","a":"1.safetensors"})");
  const StateDict read = load();
  REQUIRE(read.size() == 2);
  CHECK(read[0].first == "b");
  CHECK(at(read, "a").item<float>() == 1.f);
  CHECK(io::load_safetensors(folder / "model.safetensors.index.json").size() == 2);
  CHECK(io::load_safetensors(folder / "1.safetensors").size() == 1);

  index(R"({"a":"1.safetensors","b":"1.safetensors"})");
  check_error<FormatError>("index_mismatch", load, name);
  index(R"({"a":"1.safetensors","b":"3.safetensors","c":"4.safetensors"})");
  check_error<FormatError>("index_missing_shards", load, name);
  for (const char* path : {"../1.safetensors", "/1.safetensors", "x/../1.safetensors", "..", "",
                           "1.safetensors\\u0000x", "x\\\\y"}) {
    CAPTURE(path);
    index(std::string(R"({"a":")") + path + "\"}");
    try {
      load();
      FAIL_CHECK("accepted");
    } catch (const FormatError& error) {
      CHECK((error.code() == "E_INDEX_PATH"));
    }
  }
  index(R"({"a":"../1.safetensors"})");
  check_error<FormatError>("index_path", load, name);
  index(R"({"a":7})");
  check_error<FormatError>("index_value", load, name);
  index("[]");
  check_error<FormatError>("index_map", load, name);

  io::save_safetensors(folder / "2.safetensors",
                       {{"a", of<float>({1.f}, {1})}, {"b", of<float>({2.f}, {1})}});
  index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  check_error<FormatError>("index_two_homes", load, name);

  index("{}", "other.safetensors.index.json");
  check_error<FormatError>("folder_two_indexes", load, [&](std::string text) {
    return replaced(text, folder.path(), "FOLDER");
  });
  shard("model.safetensors", "whole", 3.f);
  CHECK(load().size() == 1);
}
