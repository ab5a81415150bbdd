// What a group that spans nodes consists of on one of them, and how it ends on all.
//
// Note [One reason]
// The first rank of the group that fails writes why into the store, then drops its links. The
// others find their links broken, read the reason there, and end with the same words.
//
// Note [A message and a collective]
// A rank that waits in send or recv for one of another node, which itself waits in a collective,
// waits for good. It keeps counting in the store while it waits; where the other's node waits too,
// and sees that count go on, both learn that their calls do not match.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <weft/core/base/error.hpp>
#include <weft/dist/comm/control.hpp>
#include <weft/dist/comm/crossing.hpp>
#include <weft/dist/comm/spanning.hpp>

namespace weft::inline v0::dist::detail {

// Seconds by which those that wait for another node outlast those that wait inside it, who know
// which rank is missing.
inline constexpr double kOutlast = 0.5;

inline size_t to_size(int value) { return static_cast<size_t>(value); }
inline size_t item_of(const Call& call) { return static_cast<size_t>(size_of(call.dtype)); }
inline size_t bytes_of(const Call& call) {
  return static_cast<size_t>(call.shape.numel()) * item_of(call);
}

class SpanningGroup {
 public:
  SpanningGroup(const std::string& name, int rank, SpanningParts parts,
                std::unique_ptr<Peers> peers);
  virtual ~SpanningGroup();
  SpanningGroup(const SpanningGroup&) = delete;
  SpanningGroup& operator=(const SpanningGroup&) = delete;

 protected:
  /// How a link's trouble is told to the group: of the link between nodes (rank -1), or of that to
  /// one rank.
  class Owner final : public Crossing::Owner {
   public:
    Owner(SpanningGroup& group, int rank) : group_(group), rank_(rank) {}
    void on_wait(int peer) override;
    void on_broken(int peer, const std::string& why) override;
    void on_desync(Crossing& crossing) override;
    void on_left(int peer) override;

   private:
    int node(int peer) const;
    SpanningGroup& group_;
    int rank_;
  };

  /// Drops all links, from any thread.
  virtual void close_links() noexcept = 0;

  /// Runs a collective; what ends it ends the group on all nodes.
  template <class F>
  void guarded(const F& action) {
    try {
      action();
    } catch (const CommError& error) {
      end_everywhere(error);
      throw;
    }
  }
  void end_everywhere(const CommError& error) noexcept;
  void abort_everywhere(const std::string& reason) noexcept;
  /// The ranks called different things: throws DesyncError.
  [[noreturn]] void fail_desync(const Crossing& crossing);
  [[noreturn]] void fail_message(const Crossing& line, int peer);

  /// A link as Connector::connect makes it; where that takes too long, throws what is known of why.
  std::unique_ptr<CrossLink> connect(const std::string& name, int rank, int size,
                                     TimePoint deadline, const std::function<void()>& check);
  /// The link of one process per node, without which there is no group: where it cannot be made,
  /// those who have joined already learn why.
  std::unique_ptr<CrossLink> join(const std::string& name, TimePoint deadline);
  /// A message to or from `peer` waits: to be called now and then, and at its end.
  void note_message_wait(int peer);
  void end_message_wait(int peer);
  /// Throws what the group has ended with, on this node or on another.
  void check_everywhere();

  int node_of(int rank) const { return layout_.node_of[static_cast<size_t>(rank)]; }
  const std::vector<int>& members_of(int node) const {
    return layout_.members[static_cast<size_t>(node)];
  }

  std::string name_;
  int rank_;
  SpanningParts parts_;
  const NodeLayout& layout_;
  int node_;
  std::unique_ptr<NodeTransport> node_part_;
  Control& control_;
  std::atomic<bool> ended_ = false;

 private:
  std::string ended_key() const { return "ended/" + name_; }
  std::string name_of_peer(int node, int rank) const;
  void on_failure(int world, const std::string& text);
  [[noreturn]] void throw_ending();
  /// Takes over the reason that another node has written; whether one has.
  bool adopt_reason(double patience);
  void look_at_others();
  void check_wait(int node, int rank);
  [[noreturn]] void fail_broken(int node, int rank, const std::string& why);
  [[noreturn]] void fail_left(int node, int rank);
  std::optional<std::string> exit_of(int world) const;
  std::string message_key(int peer) const;
  /// Ends the group where a rank of another node waits in a message for one of this node.
  void look_for_messages();
  void look_for_message(int member);

  struct Seen {
    uint64_t sequence = 0;  ///< of the collective under way when it was seen
    std::string text;
  };
  int watched_ = 0;
  uint64_t message_waits_ = 0;  ///< told to the store so far
  bool message_is_noted_ = false;
  TimePoint last_look_ = Clock::now();
  std::map<int, Seen> seen_messages_;
};

}  // namespace weft::inline v0::dist::detail
