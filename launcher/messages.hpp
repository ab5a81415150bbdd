// What launchers of several hosts say to each other, as values of the store.
//
// A launcher writes to the one of node 0 under launch/from/ID/N, that one to it under
// launch/to/ID/N, with N counting from 0. A message is its kind and its fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <weft/launcher/membership.hpp>

namespace weft::inline v0::launcher {

using Fields = std::vector<std::string>;

inline constexpr size_t kMaxFields = 4096;  ///< of a message

/// The fields as one value, and back; nothing where the bytes are no such value, or one of more
/// than `max_fields` fields.
std::string pack(const Fields& fields);
std::optional<Fields> unpack(std::string_view bytes, size_t max_fields = kMaxFields);

std::string key_from(const std::string& id, uint64_t number);
std::string key_to(const std::string& id, uint64_t number);

/// The launcher's id in a key of key_from's form; empty where it has another form.
std::string_view sender_of(std::string_view key);

/// The name under which a launcher is a member of the store.
std::string member_name(const std::string& id);

Fields to_fields(const NodeHello& hello);
std::optional<NodeHello> parse_hello(const Fields& fields);

Fields to_fields(const Cause& cause);

/// What a launcher has to know of a plan.
struct Assignment {
  int attempt = 0, ranks = 0, nodes = 0;
  PlannedNode node = {};
  std::string job_id = {};
};
Fields to_fields(const Assignment& assignment);
std::optional<Assignment> parse_assignment(const Fields& fields);

/// A whole number in a field; nothing where it is none.
std::optional<int> to_int(std::string_view text);

}  // namespace weft::inline v0::launcher
