// Runs a fuzz target over the files of its corpus: what fuzzing found stays tested where there is
// no libFuzzer. Prints the count of its cases as the doctest binaries do.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int count, char** arguments) {
  int passed = 0, failed = 0;
  for (int i = 1; i < count; ++i)
    for (const auto& entry : std::filesystem::recursive_directory_iterator(arguments[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)),
                              std::istreambuf_iterator<char>());
      try {
        LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
        // Every prefix, too: a truncated input is the most likely one.
        for (size_t size = 0; size < bytes.size() && size < 512; ++size)
          LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), size);
        ++passed;
      } catch (const std::exception& error) {
        std::printf("%s: %s\n", entry.path().c_str(), error.what());
        ++failed;
      }
    }
  if (passed + failed == 0) {
    std::printf("no files in the corpus\n");
    ++failed;
  }
  std::printf("[weft] %d passed, %d failed, 0 skipped\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
