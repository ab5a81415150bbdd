// Fuzzing YAML: any bytes are a document within its limits, or a FormatError with its place.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <weft/core/base/error.hpp>
#include <weft/core/base/yaml.hpp>

namespace {

using namespace weft;

void require(bool holds) {
  if (!holds) std::abort();
}

size_t check(const yaml::Node& node, size_t depth) {
  require(node.place.line >= 1 && node.place.column >= 1 && depth <= 32);
  size_t nodes = 1;
  if (node.kind == yaml::Node::Kind::scalar) {
    // What is written for a text reads back as that text.
    const yaml::Node back = yaml::parse(yaml::scalar(node.text), "back");
    require(back.text == node.text);
  }
  for (const yaml::Node& item : node.items) nodes += check(item, depth + 1);
  for (const yaml::Entry& entry : node.entries) nodes += check(entry.value, depth + 1);
  return nodes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    require(check(yaml::parse(text, "fuzz", {.nodes = 1000}), 0) <= 1000);
  } catch (const FormatError& error) {
    require(std::string_view(error.what()).starts_with("fuzz:"));
  }
  return 0;
}
