#include <weft/dist/comm/crossing.hpp>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace weft::inline v0::dist::detail {

namespace {

constexpr uint64_t kMagic = 0x3173736f72636677u;  // "wfcross1"
constexpr uint64_t kCalls = 1, kData = 2;         // slots

size_t bytes_of(const std::vector<Block>& blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), size_t{0},
                         [](size_t sum, const Block& block) { return sum + block.bytes; });
}

void pack(const std::vector<Block>& blocks, std::byte* to) {
  for (const Block& block : blocks) {
    std::memcpy(to, block.data, block.bytes);
    to += block.bytes;
  }
}

void unpack(const std::byte* from, const std::vector<Block>& blocks) {
  for (const Block& block : blocks) {
    std::memcpy(block.data, from, block.bytes);
    from += block.bytes;
  }
}

/// What a node sends to itself.
void copy(const std::vector<Block>& from, const std::vector<Block>& to) {
  for (size_t i = 0; i < to.size(); ++i)
    if (to[i].data != from[i].data) std::memcpy(to[i].data, from[i].data, to[i].bytes);
}

Call call_of(const Header& header) {
  Call call{.kind = static_cast<CallKind>(header.call),
            .dtype = static_cast<DType>(header.dtype),
            .op = static_cast<ReduceOp>(header.op),
            .root = header.root};
  for (int i = 0; i < std::min<int>(header.dims, kMaxRank); ++i)
    call.shape.push_back(header.shape[i]);
  return call;
}

/// A message that cannot come: whoever waits for it learns why.
class BrokenTransfer final : public Transfer {
 public:
  explicit BrokenTransfer(const LinkBroken& why) : why_(why) {}
  bool wait() override { throw why_; }

 private:
  LinkBroken why_;
};

}  // namespace

std::string describe(const Header& header) {
  if (header.magic != kMagic) return "something that this version of weft does not know";
  return describe(call_of(header), header.sequence);
}

Crossing::Crossing(std::unique_ptr<CrossLink> link, Owner& owner)
    : link_(std::move(link)), owner_(owner), boxes_(static_cast<size_t>(link_->size())) {
  for (int peer = 0; peer < size(); ++peer)
    if (peer != rank()) expect(peer);
}

Crossing::~Crossing() {
  if (!has_left_) link_->close();
}

const Header& Crossing::header(int peer) const {
  const Mailbox& its = boxes_[static_cast<size_t>(peer)];
  return peer == rank() ? *its.out : its.in[1 - its.next];
}

template <class Start>
std::unique_ptr<Transfer> Crossing::start(int peer, const Start& begin) {
  std::unique_ptr<Transfer> transfer;
  try {
    transfer = begin();
  } catch (const LinkBroken& broken) {
    owner_.on_broken(peer, broken.what());
  }
  return transfer;
}

void Crossing::expect(int peer) {
  Mailbox& its = box(peer);
  auto* to = reinterpret_cast<std::byte*>(&its.in[its.next]);
  // A peer may have gone after its part of this call: only the next one misses it.
  try {
    its.expected = link_->receive(peer, kCalls, to, sizeof(Header));
  } catch (const LinkBroken& broken) {
    its.expected = std::make_unique<BrokenTransfer>(broken);
  }
}

void Crossing::wait(Transfer& transfer, int peer) {
  try {
    while (!transfer.wait()) owner_.on_wait(peer);
  } catch (const LinkBroken& broken) {
    owner_.on_broken(peer, broken.what());
  }
}

void Crossing::tell(int peer, Header::Kind kind) {
  Mailbox& its = box(peer);
  its.out->magic = kMagic;
  its.out->kind = kind;
  const auto* from = reinterpret_cast<const std::byte*>(its.out.get());
  its.sent = start(peer, [&] { return link_->send(peer, kCalls, from, sizeof(Header)); });
}

void Crossing::answer(int peer, Header::Kind kind) {
  tell(peer, kind);
  wait(*box(peer).sent, peer);
}

const Header& Crossing::hear(int peer) {
  Mailbox& its = box(peer);
  wait(*its.expected, peer);
  its.next = 1 - its.next;
  // Awaited before this one is answered: the peer's next header finds a place.
  expect(peer);
  if (header(peer).magic == kMagic && header(peer).kind == Header::leaving) owner_.on_left(peer);
  return header(peer);
}

void Crossing::meet(const Call& call, uint64_t fingerprint, uint64_t sequence, const Moves* moves) {
  Header mine{};
  mine.fingerprint = fingerprint;
  mine.sequence = sequence;
  mine.root = call.root;
  mine.call = static_cast<uint8_t>(call.kind);
  mine.dtype = static_cast<uint8_t>(call.dtype);
  mine.op = static_cast<uint8_t>(call.op);
  mine.dims = static_cast<uint8_t>(call.shape.rank());
  std::copy(call.shape.begin(), call.shape.end(), mine.shape);
  for (int step = 0; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const auto k = static_cast<size_t>(peer);
    // The data of the last call stays behind what is written here: the size is fixed.
    std::memcpy(box(peer).out.get(), &mine, offsetof(Header, data));
    box(peer).out->magic = kMagic;
    if (peer == rank()) continue;
    if (moves != nullptr) {
      box(peer).out->inline_bytes = static_cast<uint32_t>(bytes_of(moves->out[k]));
      pack(moves->out[k], box(peer).out->data);
    }
    tell(peer, Header::calling);
  }
  bool agree = true;
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const Header& its = hear(peer);
    agree &= its.magic == kMagic && its.kind == Header::calling && its.fingerprint == fingerprint;
  }
  for (int peer = 0; peer < size(); ++peer)
    if (peer != rank()) wait(*box(peer).sent, peer);
  if (!agree) owner_.on_desync(*this);
  if (moves == nullptr) return;
  for (int peer = 0; peer < size(); ++peer) {
    const auto k = static_cast<size_t>(peer);
    if (peer == rank())
      copy(moves->out[k], moves->in[k]);
    else
      unpack(header(peer).data, moves->in[k]);
  }
}

void Crossing::move(const Moves& moves) {
  const auto nodes = static_cast<size_t>(size());
  std::vector<std::unique_ptr<Transfer>> receives(nodes), sends(nodes);
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + size() - step) % size();
    const auto k = static_cast<size_t>(peer);
    const size_t bytes = bytes_of(moves.in[k]);
    if (bytes == 0) continue;
    std::vector<std::byte>& arrived = box(peer).arrived;
    const bool direct = moves.in[k].size() == 1;
    if (!direct && arrived.size() < bytes) arrived.resize(bytes);
    std::byte* to = direct ? moves.in[k][0].data : arrived.data();
    receives[k] = start(peer, [&] { return link_->receive(peer, kData, to, bytes); });
  }
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + step) % size();
    const auto k = static_cast<size_t>(peer);
    const size_t bytes = bytes_of(moves.out[k]);
    if (bytes == 0) continue;
    std::vector<std::byte>& packed = box(peer).packed;
    const bool direct = moves.out[k].size() == 1;
    if (!direct) {
      if (packed.size() < bytes) packed.resize(bytes);
      pack(moves.out[k], packed.data());
    }
    const std::byte* from = direct ? moves.out[k][0].data : packed.data();
    sends[k] = start(peer, [&] { return link_->send(peer, kData, from, bytes); });
  }
  copy(moves.out[static_cast<size_t>(rank())], moves.in[static_cast<size_t>(rank())]);
  for (int step = 1; step < size(); ++step) {
    const int peer = (rank() + size() - step) % size();
    const auto k = static_cast<size_t>(peer);
    if (receives[k] == nullptr) continue;
    wait(*receives[k], peer);
    if (moves.in[k].size() > 1) unpack(box(peer).arrived.data(), moves.in[k]);
  }
  for (int peer = 0; peer < size(); ++peer)
    if (auto& sent = sends[static_cast<size_t>(peer)]) wait(*sent, peer);
}

void Crossing::leave(double seconds) noexcept {
  const TimePoint end = deadline_after(seconds);
  has_left_ = true;
  // A peer that has gone already needs no goodbye.
  const auto still = [&](int peer, auto&& action) {
    try {
      action(box(peer));
    } catch (const LinkBroken&) {
      box(peer).expected = nullptr;
    }
  };
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    still(peer, [&](Mailbox& its) {
      its.out->magic = kMagic;
      its.out->kind = Header::leaving;
      const auto* from = reinterpret_cast<const std::byte*>(its.out.get());
      its.sent = link_->send(peer, kCalls, from, sizeof(Header));
    });
  }
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    // The goodbye itself first: its memory is gloo's until the system has it.
    still(peer, [&](Mailbox& its) {
      for (Transfer* transfer : {its.sent.get(), its.expected.get()})
        while (transfer != nullptr && !transfer->wait() && Clock::now() < end) {
        }
    });
  }
}

}  // namespace weft::inline v0::dist::detail
