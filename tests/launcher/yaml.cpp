// YAML as configuration files have it: places, and what is refused.
#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include <weft/core/base/error.hpp>
#include <weft/core/base/yaml.hpp>
#include <weft/tests/support/errors.hpp>
#include <weft/tests/support/temp_dir.hpp>

using namespace weft::test;
namespace yaml = weft::yaml;

namespace {

void refuses(const std::string& name, const std::string& text, const std::string& code,
             const yaml::Limits& limits = {}) {
  check_error<weft::FormatError>(name, [&] { yaml::parse(text, "f.yaml", limits); });
  try {
    yaml::parse(text, "f.yaml", limits);
  } catch (const weft::FormatError& error) {
    CHECK(error.code() == code);
  }
}

}  // namespace

TEST_CASE("yaml: a document with the place of each part") {
  const auto root = yaml::parse(
      "# comment\n"
      "num_processes: 2\n"
      "fsdp_config:\n"
      "  version:   '2'\n"
      "  layers: [A, B]\n"
      "empty:\n"
      "none: null\n",
      "f.yaml");
  REQUIRE(root.kind == yaml::Node::Kind::map);
  REQUIRE(root.entries.size() == 4);
  CHECK(root.entries[0].key == "num_processes");
  CHECK(root.entries[0].place.line == 2);
  CHECK(root.entries[0].place.column == 1);
  CHECK(root.entries[0].value.text == "2");
  CHECK_FALSE(root.entries[0].value.quoted);
  CHECK(root.entries[0].value.place.column == 16);
  const auto& section = root.entries[1].value;
  REQUIRE(section.kind == yaml::Node::Kind::map);
  CHECK(section.entries[0].key == "version");
  CHECK(section.entries[0].place.line == 4);
  CHECK(section.entries[0].place.column == 3);
  CHECK(section.entries[0].value.quoted);
  CHECK(section.entries[0].value.place.column == 14);
  REQUIRE(section.entries[1].value.kind == yaml::Node::Kind::list);
  CHECK(section.entries[1].value.items[1].text == "B");
  CHECK(section.entries[1].value.items[1].place.column == 15);
  CHECK(root.entries[2].value.kind == yaml::Node::Kind::null);
  CHECK(root.entries[3].value.kind == yaml::Node::Kind::null);
}

TEST_CASE("yaml: JSON is YAML too, and an empty file an empty document") {
  const auto root =
      yaml::parse("{\"a\": 1, \"b\": {\"c\": [true, \"x\\u00e4\"]}, \"d\":null}\n", "f");
  REQUIRE(root.entries.size() == 3);
  CHECK(root.entries[1].value.entries[0].value.items[1].text == "x\xc3\xa4");
  CHECK(root.entries[2].value.kind == yaml::Node::Kind::null);
  for (const char* text : {"", "\n\n", "# nothing\n", "---\n", "\xef\xbb\xbf"})
    CHECK(yaml::parse(text, "f").kind == yaml::Node::Kind::null);
  CHECK(yaml::parse("\xef\xbb\xbf"
                    "a: 1\r\nb: 2\r\n",
                    "f")
            .entries.size() == 2);
}

TEST_CASE("yaml: escapes are UTF-8") {
  const yaml::Node node = yaml::parse(R"(a: "\N \_ \xe9\_ \u20ac \L")", "f");
  CHECK(node.entries[0].value.text ==
        "\xc2\x85 \xc2\xa0 \xc3\xa9\xc2\xa0 \xe2\x82\xac \xe2\x80\xa8");
}

TEST_CASE("yaml: what no configuration needs is refused, with its place") {
  refuses("yaml_syntax", "a: 1\nb: [1, 2\n", "E_YAML_SYNTAX");
  refuses("yaml_indent", "a:\n  b: 1\n c: 2\n", "E_YAML_SYNTAX");
  refuses("yaml_tab", "a:\n\tb: 1\n", "E_YAML_SYNTAX");
  refuses("yaml_quote", "a: 'x\n", "E_YAML_SYNTAX");
  refuses("yaml_duplicate", "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "E_YAML_DUPLICATE");
  refuses("yaml_alias", "a: &x [1]\nb: *x\n", "E_YAML_ALIAS");
  refuses("yaml_unknown_alias", "b: *nothing\n", "E_YAML_SYNTAX");
  refuses("yaml_tag", "a: !!python/object:os.system ls\n", "E_YAML_TAG");
  refuses("yaml_own_tag", "a: !mine ls\n", "E_YAML_TAG");
  refuses("yaml_two_documents", "a: 1\n---\nb: 2\n", "E_YAML_DOCUMENTS");
  refuses("yaml_map_key", "? [a, b]\n: 1\n", "E_YAML_KEY");
  refuses("yaml_null_key", "~: 1\n", "E_YAML_KEY");
  refuses("yaml_not_utf8", "a: 1\nbc: \xff\n", "E_YAML_ENCODING");
  refuses("yaml_overlong", "a: \xc0\xaf\n", "E_YAML_ENCODING");
  refuses("yaml_surrogate", "a: \xed\xa0\x80\n", "E_YAML_ENCODING");
  refuses("yaml_cut_off", "a: \xe2\x82", "E_YAML_ENCODING");
  refuses("yaml_utf16",
          std::string("\xff\xfe"
                      "a\0:\0",
                      6),
          "E_YAML_ENCODING");
  refuses("yaml_nul", std::string("a: \0b\n", 6), "E_YAML_ENCODING");
  refuses("yaml_depth", "a: " + std::string(40, '[') + std::string(40, ']'), "E_YAML_LIMIT");
  refuses("yaml_bytes", std::string(2000, ' '), "E_YAML_LIMIT", {.bytes = 1000});
  refuses("yaml_nodes", "[1, 2, 3, 4, 5, 6]", "E_YAML_LIMIT", {.nodes = 5});
}

TEST_CASE("yaml: hostile documents end in an error, soon") {
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    const std::string before = std::string("*") + static_cast<char>(c - 1);
    bomb += std::string(1, c) + ": &" + c + " [" + before + ", " + before + ", " + before + "]\n";
  }
  CHECK_THROWS_AS(yaml::parse(bomb, "f"), weft::FormatError);
  for (const char* piece :
       {"[", "{", "{a: ", "- ", "? ", "a:\n ", "[a, ", "\"", "'", "&a ", "!", "|"}) {
    std::string text;
    while (text.size() < 200'000) text += piece;
    CAPTURE(piece);
    try {
      yaml::parse(text, "f");
    } catch (const weft::FormatError& error) {
      CHECK(std::string(error.what()).starts_with("f:"));
    }
  }
}

TEST_CASE("yaml: files") {
  const TempDir folder;
  std::ofstream(folder / "a.yaml") << "a: 1\n";
  CHECK(yaml::read_file(folder / "a.yaml").entries.size() == 1);
  const auto there = [&](std::string text) { return replaced(text, folder.path(), "FOLDER"); };
  check_error<weft::IoError>(
      "yaml_no_file", [&] { yaml::read_file(folder / "b.yaml"); }, there);
  check_error<weft::IoError>(
      "yaml_folder", [&] { yaml::read_file(folder.path()); }, there);
  std::ofstream(folder / "c.yaml") << std::string(100, '\n');
  check_error<weft::FormatError>(
      "yaml_large_file", [&] { yaml::read_file(folder / "c.yaml", {.bytes = 50}); }, there);
}

TEST_CASE("yaml: scalars that are written read back as the same text") {
  for (const std::string text :
       {"",     "a",        "no",      "NO",    "true",   "null", "~",  "1",  "-1",   "1e8",
        "a b",  "it's",     "a: b",    "# x",   "- x",    "[",    "{",  "\"", "a\nb", "tab\there",
        "\x7f", "\xc3\xa4", "/nvme0",  "*x",    "&x",     "!x",   "%x", "@x", "`x",   "|",
        ">",    "a,b",      "${rank}", " lead", "trail ", "\\n",  "y",  "=",  "<<"}) {
    CAPTURE(text);
    const auto root = yaml::parse("key: " + yaml::scalar(text) + "\n", "f");
    REQUIRE(root.entries.size() == 1);
    CHECK(root.entries[0].value.kind == yaml::Node::Kind::scalar);
    CHECK(root.entries[0].value.text == text);
  }
  CHECK(yaml::scalar("FULL_SHARD") == "FULL_SHARD");
  CHECK(yaml::scalar("no") == "'no'");
}
