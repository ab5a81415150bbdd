// What a group that spans nodes consists of on one of them, and how it ends on all.
//
// Note [One reason]
// The first rank of the group that fails writes why into the store, then drops its links. The
// others find their links broken, read the reason there, and end with the same words.
#pragma once

#include <atomic>
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
  int rank_in_group(int world) const;
  [[noreturn]] void throw_ending();
  void adopt_reason(double patience);
  void check_wait(int node, int rank);
  [[noreturn]] void fail_broken(int node, int rank, const std::string& why);
  [[noreturn]] void fail_left(int node, int rank);
  std::optional<std::string> exit_of(int world) const;

  int watched_ = 0;
};

}  // namespace weft::inline v0::dist::detail
