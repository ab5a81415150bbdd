// Collectives of a group that spans nodes: shared memory inside each node, a link between them.
//
// Note [Lanes]
// Every node has as many lanes as the smallest one has ranks. Lane l is a process of each node, and
// these are connected; each lane carries its slice of the data, so that all ranks and all cores
// take part, and N nodes of L ranks need L * N * (N - 1) / 2 connections. A collective goes chunk
// by chunk: all ranks of a node stage their part in shared memory, meet, the lanes move their
// slices between the nodes and leave the results in shared memory, meet again, and all copy them
// out.
//
// Note [One result]
// A sum is formed over the ranks of each node, then over the nodes, both in the order of Note
// [Order of a sum], and each element in one place, from where it is copied (or, in small calls, on
// every node from the same parts in the same order). So results are equal to the bit on all ranks
// and from run to run, and to those of one host where nodes have 1, 2, 4, … ranks each, in order.
// 16-bit floats travel as f32 partial sums and are rounded once.
#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/reduce.hpp>
#include <weft/dist/comm/spanning_group.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr size_t kTile = 4 << 20;
constexpr size_t kResults = 4 << 20;
constexpr size_t kLine = 64;
constexpr size_t kOneRound = 128 << 10;  // bytes that a lane sends rather than wait a second time
constexpr double kGoodbye = 0.3;         // seconds to wait for the others' when a group is left

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }
struct Nothing {
  void operator()(size_t, size_t, size_t) const {}
};

class SpanningTransport final : public Transport, public SpanningGroup {
 public:
  SpanningTransport(const std::string& name, int rank, SpanningParts parts,
                    std::unique_ptr<Peers> peers, TimePoint deadline)
      : SpanningGroup(name, rank, std::move(parts), std::move(peers)),
        mine_(members_of(node_)),
        local_(layout_.local_rank(rank)),
        lanes_(layout_.fewest()),
        region_(node_part_->peers().share(region_bytes(), deadline)),
        results_(region_->data() + kTile * mine_.size()),
        sent_(to_size(layout_.ranks())),
        received_(to_size(layout_.ranks())) {
    if (local_ >= lanes_) return;
    lane_owner_ = std::make_unique<Owner>(*this, -1);
    lane_ = std::make_unique<Crossing>(join(fmt::format("{}/lane{}", name, local_), deadline),
                                       *lane_owner_);
  }

  ~SpanningTransport() override {
    if (ended_) return;
    if (lane_) lane_->leave(kGoodbye);
    for (auto& [peer, line] : lines_) line.crossing->leave(kGoodbye);
  }

  const std::string& name() const override { return name_; }
  int rank() const override { return rank_; }
  int size() const override { return layout_.ranks(); }

  void check_alive() override {
    guarded([&] { control_.check_alive(); });
  }

  bool belongs_to_process() const override { return true; }

  void barrier() override { meet_everywhere({.kind = CallKind::barrier}); }

  void all_reduce(const Call& call, std::byte* data) override {
    guarded([&] { reduce_everywhere(call, data); });
  }

  void all_gather(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call);
    const Pieces pieces{.staged = 1, .results = to_size(size())};
    run(
        call, bytes, pieces, bytes * to_size(layout_.most()),
        [&](size_t offset, size_t n) { std::memcpy(tile(local_), in + offset, n); },
        [&](size_t n, size_t begin, size_t count, Moves& moves) {
          for_nodes([&](size_t k, const std::vector<int>& theirs) {
            for (int q = 0; q < locals(); ++q) moves.out[k].push_back({tile(q) + begin, count});
            for (const int r : theirs) moves.in[k].push_back({result(r, n) + begin, count});
          });
        },
        [&](size_t offset, size_t n) {
          for (int r = 0; r < size(); ++r)
            std::memcpy(out + to_size(r) * bytes + offset, result(r, n), n);
        });
  }

  void gather(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call);
    const int root_node = node_of(call.root);
    const Pieces pieces{.staged = 1, .results = to_size(size())};
    run(
        call, bytes, pieces, bytes * to_size(layout_.most()),
        [&](size_t offset, size_t n) { std::memcpy(tile(local_), in + offset, n); },
        [&](size_t n, size_t begin, size_t count, Moves& moves) {
          for (int q = 0; q < locals(); ++q)
            moves.out[to_size(root_node)].push_back({tile(q) + begin, count});
          if (node_ != root_node) return;
          for_nodes([&](size_t k, const std::vector<int>& theirs) {
            for (const int r : theirs) moves.in[k].push_back({result(r, n) + begin, count});
          });
        },
        [&](size_t offset, size_t n) {
          if (rank_ != call.root) return;
          for (int r = 0; r < size(); ++r)
            std::memcpy(out + to_size(r) * bytes + offset, result(r, n), n);
        });
  }

  void broadcast(const Call& call, std::byte* data) override {
    const size_t bytes = bytes_of(call);
    const int root_node = node_of(call.root);
    const int root_local = layout_.local_rank(call.root);
    run(
        call, bytes, {.staged = 1, .results = 1}, bytes,
        [&](size_t offset, size_t n) {
          if (rank_ == call.root) std::memcpy(tile(local_), data + offset, n);
        },
        [&](size_t n, size_t begin, size_t count, Moves& moves) {
          for (auto& out : moves.out)
            if (node_ == root_node) out.push_back({tile(root_local) + begin, count});
          moves.in[to_size(root_node)].push_back({result(0, n) + begin, count});
        },
        [&](size_t offset, size_t n) {
          if (rank_ != call.root) std::memcpy(data + offset, result(0, n), n);
        });
  }

  void scatter(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call);
    const int root_node = node_of(call.root);
    const int root_local = layout_.local_rank(call.root);
    const Pieces pieces{.staged = to_size(size()), .results = to_size(layout_.most())};
    run(
        call, bytes, pieces, bytes * to_size(layout_.most()),
        [&](size_t offset, size_t n) {
          if (rank_ == call.root) stage_pieces(in, bytes, offset, n);
        },
        [&](size_t n, size_t begin, size_t count, Moves& moves) {
          if (node_ == root_node)
            for_nodes([&](size_t k, const std::vector<int>& theirs) {
              for (const int r : theirs)
                moves.out[k].push_back({staged(root_local, r, n) + begin, count});
            });
          for (int q = 0; q < locals(); ++q)
            moves.in[to_size(root_node)].push_back({result(q, n) + begin, count});
        },
        [&](size_t offset, size_t n) { std::memcpy(out + offset, result(local_, n), n); });
  }

  void all_to_all(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call), most = to_size(layout_.most());
    const Pieces pieces{.staged = to_size(size()), .results = most * to_size(size())};
    run(
        call, bytes, pieces, bytes * most * most,
        [&](size_t offset, size_t n) { stage_pieces(in, bytes, offset, n); },
        [&](size_t n, size_t begin, size_t count, Moves& moves) {
          for_nodes([&](size_t k, const std::vector<int>& theirs) {
            for (int q = 0; q < locals(); ++q)
              for (const int r : theirs) moves.out[k].push_back({staged(q, r, n) + begin, count});
            for (const int r : theirs)
              for (int q = 0; q < locals(); ++q)
                moves.in[k].push_back({result(q * size() + r, n) + begin, count});
          });
        },
        [&](size_t offset, size_t n) {
          for (int r = 0; r < size(); ++r)
            std::memcpy(out + to_size(r) * bytes + offset, result(local_ * size() + r, n), n);
        });
  }

  void reduce_scatter(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call), most = to_size(layout_.most());
    const size_t wide = to_size(static_cast<int>(size_of(partial_dtype(call.dtype))));
    const Pieces pieces{.staged = to_size(size()), .results = most};
    run(
        call, bytes, pieces, bytes / item_of(call) * wide * most,
        [&](size_t offset, size_t n) { stage_pieces(in, bytes, offset, n); },
        [&](size_t n, size_t begin, size_t count, Moves& moves) {
          plan_reduce_scatter(call, n, begin, count / item_of(call) * wide, moves);
        },
        [&](size_t offset, size_t n) { std::memcpy(out + offset, result(local_, n), n); },
        [&](size_t n, size_t begin, size_t count) {
          finish_reduce_scatter(call, n, begin, count / item_of(call));
        });
  }

  void send(const Call& call, const std::byte* data) override {
    guarded([&] {
      const int node = node_of(call.root);
      if (node == node_) return node_part_->send(local_call(call), data);
      const size_t bytes = bytes_of(call);
      Crossing& line = meet_message(call, ++sent_[to_size(call.root)]);
      move_message(line, const_cast<std::byte*>(data), bytes, true);
      line.hear(1 - line.rank());  // it has arrived
      end_message_wait(call.root);
      control_.finish();
    });
  }

  void recv(const Call& call, std::byte* data) override {
    guarded([&] {
      const int node = node_of(call.root);
      if (node == node_) return node_part_->recv(local_call(call), data);
      const size_t bytes = bytes_of(call);
      Crossing& line = meet_message(call, ++received_[to_size(call.root)]);
      move_message(line, data, bytes, false);
      line.answer(1 - line.rank(), Header::done);
      end_message_wait(call.root);
      control_.finish();
    });
  }

  Storage allocate_shared(size_t bytes) override {
    // Each node's ranks compare their own calls alone.
    meet_everywhere({.kind = CallKind::allocate_shared, .shape = {static_cast<int64_t>(bytes)}});
    // All ranks have it or none: what a node cannot give, all refuse.
    std::string refusal;
    Storage storage;
    guarded([&] {
      try {
        storage = node_part_->allocate_shared(bytes);
      } catch (const OutOfMemory& error) {
        refusal = error.what();
      }
    });
    uint8_t refused = refusal.empty() ? 0 : 1;
    all_reduce(
        {.kind = CallKind::all_reduce, .dtype = DType::u8, .op = ReduceOp::max, .shape = {1}},
        reinterpret_cast<std::byte*>(&refused));
    if (refused != 0)
      throw OutOfMemory(!refusal.empty() ? refusal
                                         : fmt::format("allocate_shared: another host of group "
                                                       "'{}' has no {} bytes of shared memory",
                                                       name_, bytes));
    return storage;
  }

  std::unique_ptr<Transport> split(int color, const std::vector<int>& members) override {
    // The number of the last collective makes the name unique within this group.
    const std::string name = fmt::format("{}/{}.{}", name_, control_.sequence(), color);
    const TimePoint deadline = deadline_after(control_.timeout());
    SpanningParts parts = parts_;
    parts.layout = subset_of(layout_, members);
    std::vector<int> in_node;
    int self = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i] == rank_) self = static_cast<int>(i);
      if (node_of(members[i]) == node_) in_node.push_back(layout_.local_rank(members[i]));
    }
    auto peers = node_part_->peers().subset(fmt::format("{}@{}", name, in_node[0] + 1000 * node_),
                                            in_node, deadline);
    if (parts.layout.nodes() == 1)
      return make_shared_transport(std::move(peers), name, control_.timeout());
    return make_spanning_transport(name, self, std::move(parts), std::move(peers), deadline);
  }

  void abort(const std::string& reason) noexcept override { abort_everywhere(reason); }
  void set_timeout(double seconds) override {
    parts_.timeout = seconds;
    node_part_->set_timeout(seconds);
  }
  std::vector<RankStatistics> statistics() const override {
    return locals() == 1 ? std::vector<RankStatistics>() : node_part_->statistics();
  }

 private:
  /// The connection to one rank of another node, made with the first message.
  struct Line {
    std::unique_ptr<Owner> owner;
    std::unique_ptr<Crossing> crossing;
  };

  /// How many pieces of a chunk each rank stages, and each node gets.
  struct Pieces {
    size_t staged = 1, results = 1;
  };

  int locals() const { return static_cast<int>(mine_.size()); }
  size_t results_bytes() const {
    const size_t pieces = to_size(layout_.most()) * to_size(layout_.ranks());
    return std::max(kResults, kLine * pieces);
  }
  size_t region_bytes() const { return round_up(kTile * mine_.size() + results_bytes(), 4096); }
  std::byte* tile(int local) const { return region_->data() + kTile * to_size(local); }
  std::byte* staged(int local, int piece, size_t n) const {
    return tile(local) + to_size(piece) * round_up(n, kLine);
  }
  std::byte* result(int piece, size_t n) const {
    return results_ + to_size(piece) * round_up(n, kLine);
  }
  template <class F>
  void for_nodes(const F& f) const {
    for (size_t k = 0; k < layout_.members.size(); ++k) f(k, layout_.members[k]);
  }

  /// The first phase, in the node; from then on it takes longer to give up, see kOutlast.
  void meet_in_node() {
    bool none_placed = false;
    control_.meet(0, none_placed);
    control_.set_patience(2 * kOutlast);
  }

  /// A call of all ranks that moves no data.
  void meet_everywhere(const Call& call) {
    guarded([&] {
      control_.begin(call);
      meet_in_node();
      if (lane_ && local_ == 0) cross_meet(call, nullptr);
      control_.sync();
      control_.finish();
    });
  }

  void cross_meet(const Call& call, const Moves* moves) {
    lane_->meet(call, control_.running_fingerprint(), control_.sequence(), moves);
  }

  // Where a lane's slice of n bytes begins and how long it is.
  std::pair<size_t, size_t> slice(size_t n, int lanes) const {
    const size_t part = round_up((n + to_size(lanes) - 1) / to_size(lanes), kLine);
    const size_t begin = std::min(part * to_size(local_), n);
    return {begin, std::min(part, n - begin)};
  }

  void stage_pieces(const std::byte* in, size_t bytes, size_t offset, size_t n) const {
    for (int r = 0; r < size(); ++r)
      std::memcpy(staged(local_, r, n), in + to_size(r) * bytes + offset, n);
  }

  /// Runs a collective chunk by chunk: stage(offset, n), phase, plan the lane's moves of
  /// [begin, begin + count) of each piece, move, combine, phase, drain(offset, n). `largest` is
  /// what a node sends to another at most, in bytes: small calls ride along with the first message.
  template <class Stage, class Plan, class Drain, class Combine = Nothing>
  void run(const Call& call, size_t bytes, Pieces pieces, size_t largest, const Stage& stage,
           const Plan& plan, const Drain& drain, const Combine& combine = {}) {
    guarded([&] {
      const size_t room = std::min(kTile / pieces.staged, results_bytes() / pieces.results);
      const size_t step = std::max(kLine, room / kLine * kLine);
      const bool rides = Crossing::fits(largest) && bytes <= step;
      control_.begin(call);
      size_t offset = 0;
      do {
        const size_t n = std::min(step, bytes - offset);
        stage(offset, n);
        if (offset == 0)
          meet_in_node();
        else
          control_.sync();
        const auto [begin, count] = slice(n, rides ? 1 : lanes_);
        if (lane_ && (local_ == 0 || count != 0)) {
          Moves moves(layout_.nodes());
          if (count != 0) plan(n, begin, count, moves);
          if (offset == 0) cross_meet(call, rides ? &moves : nullptr);
          if (!rides) lane_->move(moves);
          if (count != 0) combine(n, begin, count);
        }
        control_.sync();
        drain(offset, n);
        offset += n;
      } while (offset < bytes);
      control_.finish();
    });
  }
  /// Scratch for partial results: one of `bytes` for each of `pieces`.
  std::byte* scratch(size_t which, size_t bytes) {
    if (scratch_.size() <= which) scratch_.resize(which + 1);
    if (scratch_[which].size() < bytes) scratch_[which].resize(bytes);
    return scratch_[which].data();
  }

  void plan_reduce_scatter(const Call& call, size_t n, size_t begin, size_t wide_bytes,
                           Moves& moves) {
    const size_t elements =
        wide_bytes / to_size(static_cast<int>(size_of(partial_dtype(call.dtype))));
    size_t which = 0;
    for_nodes([&](size_t k, const std::vector<int>& theirs) {
      for (const int r : theirs) {
        sources_.clear();
        for (int q = 0; q < locals(); ++q) sources_.push_back(staged(q, r, n) + begin);
        std::byte* partial = scratch(which++, wide_bytes);
        reduce_to_partial(call.dtype, call.op, sources_, partial, elements);
        moves.out[k].push_back({partial, wide_bytes});
      }
    });
    partials_.assign(layout_.members.size(), {});
    for_nodes([&](size_t k, const std::vector<int>&) {
      for (size_t q = 0; q < mine_.size(); ++q) {
        const bool own = k == to_size(node_);
        std::byte* partial = own ? moves.out[k][q].data : scratch(which++, wide_bytes);
        moves.in[k].push_back({partial, wide_bytes});
        partials_[k].push_back(partial);
      }
    });
  }

  void finish_reduce_scatter(const Call& call, size_t n, size_t begin, size_t elements) {
    for (int q = 0; q < locals(); ++q) {
      sources_.clear();
      for (const auto& of_node : partials_) sources_.push_back(of_node[to_size(q)]);
      std::byte* const to = result(q, n) + begin;
      reduce_partials(call.dtype, call.op, sources_, {&to, 1}, elements, to_size(size()));
    }
  }

  void reduce_everywhere(const Call& call, std::byte* data) {
    const size_t bytes = bytes_of(call);
    const size_t wide = to_size(static_cast<int>(size_of(partial_dtype(call.dtype))));
    const bool rides = Crossing::fits(bytes / item_of(call) * wide);
    const size_t first = std::min(bytes, kTile);
    control_.begin(call);
    const uint64_t place = rides ? 0 : node_part_->place_of(data, bytes);
    if (place == 0) std::memcpy(tile(local_), data, first);
    bool none_placed = false;
    const bool in_place = control_.meet(place, none_placed);
    control_.set_patience(2 * kOutlast);
    if (!in_place && !none_placed) {  // some did not stage their first tile
      if (place != 0) std::memcpy(tile(local_), data, first);
      control_.sync();
    }
    size_t offset = 0;
    do {
      const size_t n = std::min(kTile, bytes - offset);
      if (!in_place && offset != 0) {
        std::memcpy(tile(local_), data + offset, n);
        control_.sync();
      }
      bases_.clear();
      for (int q = 0; q < locals(); ++q)
        bases_.push_back(in_place ? node_part_->at(place, q) + offset : tile(q));
      if (rides && local_ == 0)
        reduce_in_one_round(call, 0, n / item_of(call), wide, true);
      else if (!rides)
        reduce_slice(call, n, wide, offset == 0);
      if (!in_place) {
        control_.sync();
        std::memcpy(data + offset, tile(local_), n);
      }
      offset += n;
    } while (offset < bytes);
    if (in_place) control_.sync();
    control_.finish();
  }

  std::byte* node_partial(const Call& call, size_t begin, size_t elements, size_t wide) {
    if (bases_.size() == 1 && wide == item_of(call)) return bases_[0] + begin;
    sources_.assign(bases_.begin(), bases_.end());
    for (const std::byte*& source : sources_) source += begin;
    std::byte* partial = scratch(0, std::max(elements * wide, kLine));
    reduce_to_partial(call.dtype, call.op, sources_, partial, elements);
    return partial;
  }

  /// One round: every node gets all partial results and combines them itself.
  void reduce_in_one_round(const Call& call, size_t begin, size_t elements, size_t wide,
                           bool rides) {
    Moves moves(layout_.nodes());
    std::byte* own = node_partial(call, begin, elements, wide);
    std::vector<const std::byte*> parts;
    for (size_t k = 0; k < layout_.members.size(); ++k) {
      const bool mine = k == to_size(node_);
      std::byte* part = mine ? own : scratch(k + 1, std::max(elements * wide, kLine));
      parts.push_back(part);
      moves.out[k].push_back({own, elements * wide});
      moves.in[k].push_back({part, elements * wide});
    }
    rides ? cross_meet(call, &moves) : lane_->move(moves);
    destinations_.clear();
    for (std::byte* base : bases_) destinations_.push_back(base + begin);
    reduce_partials(call.dtype, call.op, parts, destinations_, elements, to_size(size()));
  }

  /// The lane's slice: each node combines its piece of it and sends the result to the others.
  void reduce_slice(const Call& call, size_t n, size_t wide, bool is_first) {
    const auto [begin, count] = slice(n, lanes_);
    if (!lane_ || (local_ != 0 && count == 0)) return;
    if (is_first) cross_meet(call, nullptr);
    if (count == 0) return;
    const size_t item = item_of(call), elements = count / item;
    const auto nodes = to_size(layout_.nodes()), self = to_size(node_);
    if (elements * wide * (nodes - 1) <= kOneRound)
      return reduce_in_one_round(call, begin, elements, wide, false);
    const size_t piece = round_up((elements + nodes - 1) / nodes, kLine / item);
    const auto first_of = [&](size_t k) { return std::min(piece * k, elements); };
    const auto count_of = [&](size_t k) { return std::min(piece, elements - first_of(k)); };
    std::byte* partial = node_partial(call, begin, elements, wide);
    Moves spread(layout_.nodes());
    std::vector<const std::byte*> parts;
    for (size_t k = 0; k < nodes; ++k) {
      std::byte* own = partial + first_of(self) * wide;
      parts.push_back(k == self ? own : scratch(k + 1, std::max(count_of(self) * wide, kLine)));
      spread.out[k].push_back({partial + first_of(k) * wide, count_of(k) * wide});
      spread.in[k].push_back({const_cast<std::byte*>(parts[k]), count_of(self) * wide});
    }
    lane_->move(spread);
    destinations_.clear();
    for (std::byte* base : bases_) destinations_.push_back(base + begin + first_of(self) * item);
    reduce_partials(call.dtype, call.op, parts, destinations_, count_of(self), to_size(size()));
    Moves collect(layout_.nodes());
    for (size_t k = 0; k < nodes; ++k) {
      if (k == self) continue;
      collect.out[k].push_back({destinations_[0], count_of(self) * item});
      collect.in[k].push_back({bases_[0] + begin + first_of(k) * item, count_of(k) * item});
    }
    lane_->move(collect);
    for (size_t q = 1; q < bases_.size(); ++q)
      for (size_t k = 0; k < nodes; ++k)
        if (k != self)
          std::memcpy(bases_[q] + begin + first_of(k) * item, collect.in[k][0].data,
                      count_of(k) * item);
  }

  Call local_call(const Call& call) const {
    Call its = call;
    its.root = layout_.local_rank(call.root);
    return its;
  }

  /// Starts a message to or from a rank of another node: both tell what they call.
  Crossing& meet_message(const Call& call, uint64_t sequence) {
    const int peer = call.root;
    const uint64_t hash = control_.begin_remote_message(call, sequence);
    auto known = lines_.find(peer);
    if (known == lines_.end()) {
      const std::string name =
          fmt::format("{}/{}-{}", name_, std::min(rank_, peer), std::max(rank_, peer));
      auto link =
          connect(name, rank_ < peer ? 0 : 1, 2, deadline_after(control_.timeout()), [this, peer] {
            check_everywhere();
            note_message_wait(peer);
          });
      auto owner = std::make_unique<Owner>(*this, peer);
      auto crossing = std::make_unique<Crossing>(std::move(link), *owner);
      const std::lock_guard lock(lines_mutex_);
      known = lines_.emplace(peer, Line{std::move(owner), std::move(crossing)}).first;
    }
    Crossing& line = *known->second.crossing;
    line.meet(call, hash, sequence);
    const Header& its = line.header(1 - line.rank());
    const auto expected = call.kind == CallKind::send ? CallKind::recv : CallKind::send;
    if (its.call != static_cast<uint8_t>(expected)) fail_message(line, peer);
    return line;
  }

  static void move_message(Crossing& line, std::byte* data, size_t bytes, bool is_sender) {
    Moves moves(2);
    auto& blocks = is_sender ? moves.out : moves.in;
    blocks[to_size(1 - line.rank())].push_back({data, bytes});
    line.move(moves);
  }

  void close_links() noexcept override {
    if (lane_) lane_->close();
    const std::lock_guard lock(lines_mutex_);
    for (auto& [peer, line] : lines_) line.crossing->close();
  }

  const std::vector<int>& mine_;  ///< the ranks of this node
  int local_, lanes_;
  std::shared_ptr<Region> region_;
  std::byte* results_;
  std::unique_ptr<Owner> lane_owner_;
  std::unique_ptr<Crossing> lane_;
  std::mutex lines_mutex_;  ///< abort() closes lines from other threads
  std::map<int, Line> lines_;
  std::vector<uint64_t> sent_, received_;  ///< messages so far, to and from each rank

  std::vector<std::vector<std::byte>> scratch_;
  std::vector<const std::byte*> sources_;
  std::vector<std::byte*> bases_, destinations_;
  std::vector<std::vector<std::byte*>> partials_;
};

}  // namespace

std::unique_ptr<Transport> make_spanning_transport(const std::string& name, int rank,
                                                   SpanningParts parts,
                                                   std::unique_ptr<Peers> peers,
                                                   TimePoint deadline) {
  return std::make_unique<SpanningTransport>(name, rank, std::move(parts), std::move(peers),
                                             deadline);
}

}  // namespace weft::inline v0::dist::detail
