#include <weft/tests/support/errors.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <sstream>
#include <system_error>

namespace weft::test {

namespace {

constexpr const char* kFile = WEFT_SOURCE_ROOT "/tests/goldens/errors.txt";

// The golden file, locked while this lives, so that binaries can rewrite it at the same time.
class GoldenFile {
 public:
  explicit GoldenFile(bool write) {
    file_ = open(kFile, (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0644);
    if (file_ < 0 || flock(file_, write ? LOCK_EX : LOCK_SH) != 0)
      throw std::system_error(errno, std::generic_category(), kFile);
  }
  ~GoldenFile() { close(file_); }
  GoldenFile(const GoldenFile&) = delete;
  GoldenFile& operator=(const GoldenFile&) = delete;

  std::string read_all() const {
    std::string text;
    char block[4096];
    ssize_t count = 0;
    while ((count = read(file_, block, sizeof block)) > 0)
      text.append(block, static_cast<size_t>(count));
    if (count < 0) throw std::system_error(errno, std::generic_category(), kFile);
    return text;
  }

  void replace_all(const std::string& text) {
    const auto size = static_cast<ssize_t>(text.size());
    if (ftruncate(file_, 0) != 0 || pwrite(file_, text.data(), text.size(), 0) != size)
      throw std::system_error(errno, std::generic_category(), kFile);
  }

 private:
  int file_ = -1;
};

struct Goldens {
  std::string heading;  // the comment lines
  std::map<std::string, std::string> texts;
};

Goldens parse(const std::string& all) {
  Goldens goldens;
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("#"))
      goldens.heading += line + "\n";
    else if (colon != std::string::npos)
      goldens.texts[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return goldens;
}

void rewrite(const std::string& name, const std::string& text) {
  GoldenFile file(true);
  Goldens goldens = parse(file.read_all());
  goldens.texts[name] = text;
  std::string all = goldens.heading;
  for (const auto& [key, value] : goldens.texts) all += key + ": " + value + "\n";
  file.replace_all(all);
}

}  // namespace

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  if (from.empty()) return text;
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

std::string without_digits(std::string text) {
  std::string result;
  bool in_digits = false;
  for (const char c : text) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit) result += c;
    if (digit && !in_digits) result += 'N';
    in_digits = digit;
  }
  return result;
}

std::string compare_error_text(const std::string& name, const std::string& text) {
  const std::string line = replaced(replaced(text, "\\", "\\\\"), "\n", "\\n");
  const char* update = std::getenv("WEFT_UPDATE_ERRORS");
  if (update != nullptr && std::string(update) == "1") {
    rewrite(name, line);
    return "";
  }
  const Goldens goldens = parse(GoldenFile(false).read_all());
  const auto entry = goldens.texts.find(name);
  if (entry == goldens.texts.end())
    return "tests/goldens/errors.txt has no line `" + name + "`; the text is: " + line +
           " (WEFT_UPDATE_ERRORS=1 writes it)";
  if (entry->second != line)
    return "`" + name + "` reads: " + line + "\nin tests/goldens/errors.txt: " + entry->second;
  return "";
}

}  // namespace weft::test
