#include <weft/dist/store/frame.hpp>

#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/store.hpp>

namespace weft::inline v0::dist::detail {

namespace {

/// What each request carries: keys, then values.
struct Form {
  size_t min_keys, max_keys, values;
};

std::optional<Form> form_of(FrameKind kind) {
  switch (kind) {
    case FrameKind::set: return Form{1, 1, 1};
    case FrameKind::get:
    case FrameKind::add:
    case FrameKind::erase:
    case FrameKind::erase_prefix:
    case FrameKind::barrier: return Form{1, 1, 0};
    case FrameKind::join: return Form{1, 1, 1};
    case FrameKind::leave: return Form{0, 0, 0};
    case FrameKind::wait_any: return Form{1, kMaxStoreWait, 0};
    case FrameKind::wait:
    case FrameKind::check: return Form{0, kMaxStoreWait, 0};
    case FrameKind::compare_set: return Form{1, 1, 2};
    default: return std::nullopt;
  }
}

}  // namespace

ParseState parse_frame(std::string_view bytes, Frame& frame) {
  if (bytes.size() < kFrameHeader) return ParseState::incomplete;
  Reader reader(bytes);
  const auto length = reader.take<uint32_t>();
  frame.kind = static_cast<FrameKind>(reader.take<uint16_t>());
  const auto flags = reader.take<uint16_t>();
  frame.id = reader.take<uint64_t>();
  if (length > kMaxFrameBody || flags != 0) return ParseState::malformed;
  frame.size = kFrameHeader + length;
  if (bytes.size() < frame.size) return ParseState::incomplete;
  frame.body = reader.take_bytes(length);
  return ParseState::complete;
}

std::string make_frame(FrameKind kind, uint64_t id, std::string_view body) {
  std::string bytes;
  bytes.reserve(kFrameHeader + body.size());
  put<uint32_t>(bytes, static_cast<uint32_t>(body.size()));
  put<uint16_t>(bytes, static_cast<uint16_t>(kind));
  put<uint16_t>(bytes, 0);
  put<uint64_t>(bytes, id);
  return bytes.append(body);
}

std::string make_request(const Request& request) {
  std::string body;
  put<uint64_t>(body, request.acknowledged);
  put<uint64_t>(body, request.timeout_us);
  put<int64_t>(body, request.amount);
  put<uint32_t>(body, static_cast<uint32_t>(request.strings.size()));
  for (const std::string& text : request.strings) put_string(body, text);
  return make_frame(request.kind, request.id, body);
}

std::optional<Request> parse_request(const Frame& frame) {
  const auto form = form_of(frame.kind);
  if (!form) return std::nullopt;
  Reader reader(frame.body);
  Request request{.kind = frame.kind, .id = frame.id};
  request.acknowledged = reader.take<uint64_t>();
  request.timeout_us = reader.take<uint64_t>();
  request.amount = reader.take<int64_t>();
  const size_t count = reader.take<uint32_t>();
  if (!reader.ok() || count < form->min_keys + form->values ||
      count > form->max_keys + form->values || request.acknowledged > request.id)
    return std::nullopt;
  auto strings = parse_strings(reader.rest(), count);
  if (!strings) return std::nullopt;
  for (size_t i = 0; i < count; ++i) {
    const size_t size = (*strings)[i].size();
    const bool is_key = i < count - form->values;
    if (is_key ? size == 0 || size > kMaxStoreKey : size > kMaxStoreValue) return std::nullopt;
  }
  request.strings = std::move(*strings);
  return request;
}

bool changes_store(FrameKind kind) {
  return kind == FrameKind::set || kind == FrameKind::add || kind == FrameKind::compare_set ||
         kind == FrameKind::erase || kind == FrameKind::erase_prefix || kind == FrameKind::join ||
         kind == FrameKind::leave;
}

void put_string(std::string& out, std::string_view text) {
  put<uint32_t>(out, static_cast<uint32_t>(text.size()));
  out.append(text);
}

std::optional<std::vector<std::string>> parse_strings(std::string_view bytes, size_t count) {
  Reader reader(bytes);
  std::vector<std::string> strings;
  for (size_t i = 0; i < count; ++i) {
    const auto size = reader.take<uint32_t>();
    const std::string_view text = reader.take_bytes(size);
    if (!reader.ok()) return std::nullopt;
    strings.emplace_back(text);
  }
  if (!reader.rest().empty()) return std::nullopt;
  return strings;
}

}  // namespace weft::inline v0::dist::detail
