// The steps of a collective between nodes, over a link.
//
// Note [Calls before data]
// gloo ends the process where the two sides of a message differ in size, on a thread of its own,
// where nothing can catch it. So every call starts with one message of a fixed size to every peer,
// which tells what is called; the others follow when all are known to be equal, and so their sizes.
// Up to kInline bytes of data ride in that first message, and are looked at only when the calls
// agree: a small collective is one round. The next first message is always awaited ahead of time,
// so that the sender need not ask.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <weft/dist/comm/call.hpp>
#include <weft/dist/comm/cross_link.hpp>

namespace weft::inline v0::dist::detail {

inline constexpr size_t kInline = 4096;

struct Block {
  std::byte* data;
  size_t bytes;
};

/// What one process sends to and receives from each node, itself included. The blocks for one node
/// travel together; their sizes, in this order, are the same on both sides.
struct Moves {
  std::vector<std::vector<Block>> out, in;
  explicit Moves(int nodes) : out(static_cast<size_t>(nodes)), in(static_cast<size_t>(nodes)) {}
};

/// The first message of a call.
struct Header {
  enum Kind : uint32_t { calling, leaving, done };
  uint64_t magic;
  uint64_t fingerprint;
  uint64_t sequence;
  uint32_t kind;
  int32_t root;
  uint8_t call, dtype, op, dims;
  uint32_t inline_bytes;
  int64_t shape[kMaxRank];
  std::byte data[kInline];
};

/// The call that a header tells of, as people read it.
std::string describe(const Header& header);

class Crossing {
 public:
  /// The group, which knows what a silent or broken link means.
  class Owner {
   public:
    virtual ~Owner() = default;
    /// Called while `peer` lets this process wait; throws when it has waited enough.
    virtual void on_wait(int peer) = 0;
    /// Throws what the group ends with.
    [[noreturn]] virtual void on_broken(int peer, const std::string& why) = 0;
    /// Throws DesyncError; header(k) are the calls.
    [[noreturn]] virtual void on_desync(Crossing& crossing) = 0;
    [[noreturn]] virtual void on_left(int peer) = 0;
  };

  Crossing(std::unique_ptr<CrossLink> link, Owner& owner);
  ~Crossing();
  Crossing(const Crossing&) = delete;
  Crossing& operator=(const Crossing&) = delete;

  int rank() const { return link_->rank(); }
  int size() const { return link_->size(); }

  /// Tells all peers what this process calls and waits for their calls; where these agree and
  /// `moves` is given, its data rides along.
  void meet(const Call& call, uint64_t fingerprint, uint64_t sequence,
            const Moves* moves = nullptr);
  /// Whether the data of all nodes' moves may ride along, given the largest of them.
  static bool fits(size_t bytes) { return bytes <= kInline; }

  /// Sends and receives, after meet.
  void move(const Moves& moves);

  /// One header alone, to or from one peer.
  void answer(int peer, Header::Kind kind);
  const Header& hear(int peer);

  const Header& header(int peer) const;

  /// Says goodbye and waits for the peers' goodbye for at most `seconds`: what was sent before has
  /// then arrived; where a peer takes longer, the system goes on sending. Does not throw.
  void leave(double seconds) noexcept;
  void close() noexcept { link_->close(); }

 private:
  struct Mailbox {
    std::unique_ptr<Header[]> in = std::make_unique<Header[]>(2);
    std::unique_ptr<Header> out = std::make_unique<Header>();
    std::unique_ptr<Transfer> expected, sent;
    unsigned next = 0;  ///< which of `in` the expected one goes to
    std::vector<std::byte> packed, arrived;
  };
  Mailbox& box(int peer) { return boxes_[static_cast<size_t>(peer)]; }
  void expect(int peer);
  void tell(int peer, Header::Kind kind);
  void wait(Transfer& transfer, int peer);
  template <class Start>
  std::unique_ptr<Transfer> start(int peer, const Start& begin);

  std::unique_ptr<CrossLink> link_;
  Owner& owner_;
  std::vector<Mailbox> boxes_;
  bool has_left_ = false;
};

}  // namespace weft::inline v0::dist::detail
