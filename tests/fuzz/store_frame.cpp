// Fuzzing what comes over the store's connections behind the handshake: any bytes are requests that
// the service answers with frames a client can take, or are refused as malformed; and any bytes as
// replies are taken by a client or end in an error by name.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <weft/core/base/error.hpp>
#include <weft/dist/store/calls.hpp>
#include <weft/dist/store/channel.hpp>
#include <weft/dist/store/frame.hpp>
#include <weft/dist/store/service.hpp>

namespace {

using namespace weft::dist::detail;

void require(bool holds) {
  if (!holds) std::abort();
}

void serve(std::string_view bytes) {
  TimePoint now;
  StoreService service({.send = [](uint64_t connection, const std::string& reply) {
    Frame frame;
    require(connection == 1 && parse_frame(reply, frame) == ParseState::complete);
    require(frame.size == reply.size() && frame.kind >= FrameKind::value);
  }});
  service.connected(1, {.id = std::string(16, 'c'), .peer = "fuzz", .rank = 0}, now);
  for (;;) {
    Frame frame;
    const ParseState state = parse_frame(bytes, frame);
    if (state != ParseState::complete) break;
    require(frame.size >= kFrameHeader && frame.size <= bytes.size());
    require(frame.body.size() == frame.size - kFrameHeader && frame.body.size() <= kMaxFrameBody);
    const auto request = parse_request(frame);
    if (!request) break;
    require(make_request(*request) == bytes.substr(0, frame.size));
    service.handle(1, *request, now);
    now += std::chrono::milliseconds(700);
    service.expire(now);
    bytes.remove_prefix(frame.size);
  }
  service.disconnected(1, now);
  service.end_epochs_below(1);
  service.expire(now + std::chrono::hours(1));
}

void receive(std::string_view bytes) {
  StoreCalls calls;
  FrameChannel channel;
  for (int i = 0; i < 3; ++i) calls.begin({.kind = FrameKind::get, .strings = {"key"}});
  for (;;) {
    Frame frame;
    size_t size = 0;
    if (channel.open(bytes, frame, size) != ParseState::complete) break;
    calls.deliver(frame);
    bytes.remove_prefix(size);
  }
  for (uint64_t id = 1; id <= 3; ++id) {
    auto reply = calls.end(id);
    if (!reply) continue;
    try {
      take_result(*std::move(reply), "get", 1);
    } catch (const weft::Error&) {
      // What the server says, by name, is what most replies come to.
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  serve(bytes);
  receive(bytes);
  return 0;
}
