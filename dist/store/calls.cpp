#include <weft/dist/store/calls.hpp>

#include <utility>
#include <vector>

#include <weft/core/base/check.hpp>
#include <weft/dist/store/bytes.hpp>
#include <weft/dist/store/table.hpp>

namespace weft::inline v0::dist::detail {

uint64_t StoreCalls::begin(Request request) {
  request.id = next_++;
  Call& call = calls_[request.id];
  request.acknowledged = calls_.begin()->first;
  call.frame = make_request(request);
  return request.id;
}

std::optional<std::string_view> StoreCalls::to_send(uint64_t id, uint64_t link) {
  Call& call = calls_.at(id);
  if (call.sent_on == link || call.reply) return std::nullopt;
  call.sent_on = link;
  return call.frame;
}

void StoreCalls::deliver(const Frame& frame) {
  const auto call = calls_.find(frame.id);
  if (call == calls_.end() || call->second.reply) return;
  call->second.reply = Reply{frame.kind, std::string(frame.body)};
}

std::optional<StoreCalls::Reply> StoreCalls::end(uint64_t id) {
  const auto call = calls_.find(id);
  std::optional<Reply> reply = std::move(call->second.reply);
  calls_.erase(call);
  return reply;
}

std::string take_result(StoreCalls::Reply reply, std::string_view call, double seconds) {
  switch (reply.kind) {
    case FrameKind::value: return std::move(reply.body);
    case FrameKind::argument: throw ArgumentError(reply.body);
    case FrameKind::late: throw TimeoutError(reply.body);
    case FrameKind::timeout: {
      std::vector<std::string> missing;
      Reader reader(reply.body);
      while (reader.ok() && !reader.rest().empty())
        missing.emplace_back(reader.take_bytes(reader.take<uint32_t>()));
      throw TimeoutError(timeout_text(call, missing, seconds));
    }
    default: throw CommError(reply.body);
  }
}

}  // namespace weft::inline v0::dist::detail
