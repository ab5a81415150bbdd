#include <weft/launcher/messages.hpp>

#include <charconv>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>

namespace weft::inline v0::launcher {

namespace {

using dist::detail::put;
using dist::detail::Reader;

constexpr std::string_view kFrom = "launch/from/";

}  // namespace

std::string pack(const Fields& fields) {
  std::string bytes;
  put<uint32_t>(bytes, static_cast<uint32_t>(fields.size()));
  for (const std::string& field : fields) {
    put<uint32_t>(bytes, static_cast<uint32_t>(field.size()));
    bytes += field;
  }
  return bytes;
}

std::optional<Fields> unpack(std::string_view bytes, size_t max_fields) {
  Reader reader(bytes);
  const auto count = reader.take<uint32_t>();
  Fields fields;
  if (count > max_fields) return std::nullopt;
  for (uint32_t i = 0; i < count && reader.ok(); ++i)
    fields.emplace_back(reader.take_bytes(reader.take<uint32_t>()));
  if (!reader.ok() || !reader.rest().empty()) return std::nullopt;
  return fields;
}

std::string key_from(const std::string& id, uint64_t number) {
  return fmt::format("{}{}/{}", kFrom, id, number);
}

std::string key_to(const std::string& id, uint64_t number) {
  return fmt::format("launch/to/{}/{}", id, number);
}

std::string_view sender_of(std::string_view key) {
  if (!key.starts_with(kFrom)) return {};
  key.remove_prefix(kFrom.size());
  return key.substr(0, key.find('/'));
}

std::string member_name(const std::string& id) { return "launcher/" + id; }

std::optional<int> to_int(std::string_view text) {
  int value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

Fields to_fields(const NodeHello& hello) {
  return {"hello",
          hello.host,
          hello.version,
          hello.nodes,
          hello.node_rank ? std::to_string(*hello.node_rank) : "",
          std::to_string(hello.ranks),
          hello.hosts_store ? "1" : "",
          std::to_string(hello.total)};
}

std::optional<NodeHello> parse_hello(const Fields& fields) {
  if (fields.size() != 8 || fields[0] != "hello") return std::nullopt;
  const auto ranks = to_int(fields[5]), total = to_int(fields[7]);
  if (!ranks || *ranks < 0 || !total || *total < 0) return std::nullopt;
  NodeHello hello{.host = fields[1],
                  .version = fields[2],
                  .nodes = fields[3],
                  .ranks = *ranks,
                  .total = *total,
                  .hosts_store = fields[6] == "1"};
  if (!fields[4].empty()) {
    hello.node_rank = to_int(fields[4]);
    if (!hello.node_rank || *hello.node_rank < 0) return std::nullopt;
  }
  return hello;
}

Fields to_fields(const Cause& cause) {
  return {cause.text, cause.id, cause.host, std::to_string(cause.code)};
}

Fields to_fields(const Assignment& assignment) {
  const PlannedNode& node = assignment.node;
  return {"start",
          std::to_string(assignment.attempt),
          std::to_string(assignment.ranks),
          std::to_string(assignment.nodes),
          std::to_string(node.node_rank),
          std::to_string(node.first_rank),
          std::to_string(node.ranks),
          assignment.job_id};
}

std::optional<Assignment> parse_assignment(const Fields& fields) {
  if (fields.size() != 8 || fields[0] != "start") return std::nullopt;
  int numbers[6];
  for (size_t i = 0; i < 6; ++i) {
    const auto number = to_int(fields[i + 1]);
    if (!number || *number < 0) return std::nullopt;
    numbers[i] = *number;
  }
  return Assignment{
      .attempt = numbers[0],
      .ranks = numbers[1],
      .nodes = numbers[2],
      .node = {.node_rank = numbers[3], .first_rank = numbers[4], .ranks = numbers[5]},
      .job_id = fields[7]};
}

}  // namespace weft::inline v0::launcher
