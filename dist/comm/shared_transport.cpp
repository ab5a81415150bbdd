// Collectives over shared memory: processes of one host, or threads of one process.
//
// Note [Three ways to reduce]
// small (<= 16 KiB)  every rank copies its data into its tile, one phase, every rank reduces its
//                    data and the others' tiles. One wait; the result is computed everywhere, from
//                    the same numbers in the same order. The lines of the next
//                    call's tile are asked for at the end, so that writing them does not wait.
// staged             the same tile by tile, double-buffered, for two ranks. With more ranks that
//                    would read size x data; there each rank reduces its slice of the tile for all,
//                    and a second phase publishes the result.
// in place           data (from 1 KiB) in memory of allocate_shared, at one place on all ranks:
//                    each rank reduces its slice of everybody's data and writes it to everybody.
//                    Two phases, and every cache line travels once. All announce the place of their
//                    data with their arrival; unless all are equal the data is staged.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/cache_line.hpp>
#include <weft/dist/comm/control.hpp>
#include <weft/dist/comm/reduce.hpp>
#include <weft/dist/comm/transport.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr size_t kTile = 512 << 10;
constexpr size_t kSmall = 16 << 10;
constexpr size_t kPlaced = 1 << 10;
constexpr size_t kLine = 64;
constexpr size_t kPage = 4096;

size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// Bytes of one message chunk between two ranks: all pairs together take at most some 4 MiB.
size_t chunk_bytes(int size) {
  const auto pairs = static_cast<size_t>(size) * static_cast<size_t>(size);
  return std::clamp<size_t>((size_t{4} << 20) / pairs / kLine * kLine, 1024, 128 << 10);
}

size_t region_bytes(int size) {
  const auto ranks = static_cast<size_t>(size);
  return round_up(Control::bytes_for(size) + 2 * kTile * ranks + chunk_bytes(size) * ranks * ranks,
                  kPage);
}

uint64_t id_of(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a: equal on all ranks, whatever their library
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// Memory of allocate_shared: one part per rank.
struct Arena {
  uint64_t id;
  std::byte* base;
  size_t stride;
  std::weak_ptr<Region> region;
};

void release_region(StorageImpl& storage) noexcept {
  const std::unique_ptr<std::shared_ptr<Region>> keeper(
      static_cast<std::shared_ptr<Region>*>(storage.context));
}

class SharedTransport final : public NodeTransport {
 public:
  SharedTransport(std::unique_ptr<Peers> peers, const std::string& name, double timeout,
                  const std::vector<int>& labels = {})
      : peers_(std::move(peers)),
        region_(peers_->share(region_bytes(peers_->size()), deadline_after(timeout))),
        control_(region_, *peers_, name, id_of(name), timeout, labels),
        rank_(peers_->rank()),
        size_(peers_->size()),
        chunk_(chunk_bytes(size_)),
        tiles_(region_->data() + Control::bytes_for(size_)),
        chunks_(tiles_ + 2 * kTile * static_cast<size_t>(size_)),
        sources_(static_cast<size_t>(size_)),
        destinations_(static_cast<size_t>(size_)),
        sent_(static_cast<size_t>(size_), 0),
        received_(static_cast<size_t>(size_), 0) {
    peers_->set_check([this] { control_.check_alive(); });
  }

  const std::string& name() const override { return control_.name(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Control& control() override { return control_; }
  Peers& peers() override { return *peers_; }

  void check_alive() override { control_.check_alive(); }
  void barrier() override { control_.barrier(); }

  void all_reduce(const Call& call, std::byte* data) override {
    const size_t bytes = bytes_of(call);
    control_.begin(call);
    const uint64_t place = bytes >= kPlaced ? place_of(data, bytes) : 0;
    if (place == 0) std::memcpy(tile(rank_, control_.next_parity()), data, std::min(bytes, kTile));
    const unsigned parity = control_.next_parity();
    bool none_placed = false;
    if (control_.meet(place, none_placed)) {
      reduce_in_place(call, place, bytes);
    } else {
      // Where some rank did not stage its first tile, all start over.
      if (bytes <= kSmall || size_ == 2)
        reduce_everywhere(call, data, bytes, none_placed, parity);
      else
        reduce_slices(call, data, bytes, none_placed, parity);
    }
    control_.finish();
  }

  void all_gather(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call);
    exchange(
        call, bytes, kTile,
        [&](size_t offset, size_t n, std::byte* slot) { std::memcpy(slot, in + offset, n); },
        [&](size_t offset, size_t n, unsigned parity) {
          for (int r = 0; r < size_; ++r)
            std::memcpy(piece(out, r, bytes) + offset, tile(r, parity), n);
        });
  }

  void reduce_scatter(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call), part = part_bytes();
    exchange(
        call, bytes, part,
        [&](size_t offset, size_t n, std::byte* slot) { fill_pieces(in, bytes, offset, n, slot); },
        [&](size_t offset, size_t n, unsigned parity) {
          for (int r = 0; r < size_; ++r)
            sources_[static_cast<size_t>(r)] = piece(tile(r, parity), rank_, part);
          std::byte* const to = out + offset;
          reduce_into(call.dtype, call.op, sources_, {&to, 1}, n / item(call));
        });
  }

  void broadcast(const Call& call, std::byte* data) override {
    const bool root = call.root == rank_;
    exchange(
        call, bytes_of(call), kTile,
        [&](size_t offset, size_t n, std::byte* slot) {
          if (root) std::memcpy(slot, data + offset, n);
        },
        [&](size_t offset, size_t n, unsigned parity) {
          if (!root) std::memcpy(data + offset, tile(call.root, parity), n);
        });
  }

  void gather(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call);
    exchange(
        call, bytes, kTile,
        [&](size_t offset, size_t n, std::byte* slot) { std::memcpy(slot, in + offset, n); },
        [&](size_t offset, size_t n, unsigned parity) {
          if (call.root != rank_) return;
          for (int r = 0; r < size_; ++r)
            std::memcpy(piece(out, r, bytes) + offset, tile(r, parity), n);
        });
  }

  void scatter(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call), part = part_bytes();
    exchange(
        call, bytes, part,
        [&](size_t offset, size_t n, std::byte* slot) {
          if (call.root == rank_) fill_pieces(in, bytes, offset, n, slot);
        },
        [&](size_t offset, size_t n, unsigned parity) {
          std::memcpy(out + offset, piece(tile(call.root, parity), rank_, part), n);
        });
  }

  void all_to_all(const Call& call, const std::byte* in, std::byte* out) override {
    const size_t bytes = bytes_of(call), part = part_bytes();
    exchange(
        call, bytes, part,
        [&](size_t offset, size_t n, std::byte* slot) { fill_pieces(in, bytes, offset, n, slot); },
        [&](size_t offset, size_t n, unsigned parity) {
          for (int r = 0; r < size_; ++r)
            std::memcpy(piece(out, r, bytes) + offset, piece(tile(r, parity), rank_, part), n);
        });
  }

  void send(const Call& call, const std::byte* data) override {
    const int to = call.root;
    const uint64_t hash = control_.begin_message(call, ++sent_[static_cast<size_t>(to)]);
    Channel& channel = control_.channel(rank_, to);
    channel.send_fingerprint.store(hash, std::memory_order_relaxed);
    uint32_t step = channel.sent.load(std::memory_order_relaxed);
    const auto advance = [&] {
      control_.signal(channel.sent, channel.sent_waiters);
      control_.await(channel.taken, ++step, channel.taken_waiters, to);
    };
    advance();
    if (channel.recv_fingerprint.load(std::memory_order_relaxed) != hash) control_.fail_message(to);
    for (size_t offset = 0, bytes = bytes_of(call); offset == 0 || offset < bytes;) {
      const size_t n = std::min(chunk_, bytes - offset);
      std::memcpy(chunk(rank_, to), data + offset, n);
      advance();
      offset += std::max<size_t>(n, 1);
    }
    control_.finish();
  }

  void recv(const Call& call, std::byte* data) override {
    const int from = call.root;
    const uint64_t hash = control_.begin_message(call, ++received_[static_cast<size_t>(from)]);
    Channel& channel = control_.channel(from, rank_);
    channel.recv_fingerprint.store(hash, std::memory_order_relaxed);
    uint32_t step = channel.taken.load(std::memory_order_relaxed);
    control_.signal(channel.taken, channel.taken_waiters);
    control_.await(channel.sent, ++step, channel.sent_waiters, from);
    if (channel.send_fingerprint.load(std::memory_order_relaxed) != hash)
      control_.fail_message(from);
    for (size_t offset = 0, bytes = bytes_of(call); offset == 0 || offset < bytes;) {
      const size_t n = std::min(chunk_, bytes - offset);
      control_.await(channel.sent, ++step, channel.sent_waiters, from);
      std::memcpy(data + offset, chunk(from, rank_), n);
      control_.signal(channel.taken, channel.taken_waiters);
      offset += std::max<size_t>(n, 1);
    }
    control_.finish();
  }

  Storage allocate_shared(size_t bytes) override {
    control_.begin({.kind = CallKind::allocate_shared, .shape = {static_cast<int64_t>(bytes)}});
    bool none_placed = false;
    control_.meet(0, none_placed);
    // Compared like this, for the sum over all ranks must not wrap.
    if (bytes > std::numeric_limits<size_t>::max() / static_cast<size_t>(size_) - kPage) {
      control_.finish();
      weft::detail::fail<OutOfMemory>(
          "allocate_shared: {} bytes for each of {} ranks are more than any host has", bytes,
          size_);
    }
    const size_t stride = round_up(std::max<size_t>(bytes, 1), kPage);
    // All ranks have it or none: one that cannot map it says so with its arrival.
    std::shared_ptr<Region> region;
    std::string refusal = "allocate_shared: another rank cannot map its shared memory";
    try {
      region =
          peers_->share(stride * static_cast<size_t>(size_), deadline_after(control_.timeout()));
    } catch (const OutOfMemory& error) {
      refusal = error.what();
    } catch (const CommError& error) {
      control_.fail_sharing(error);
    }
    const bool all_have_it = control_.meet(region ? 1 : 0, none_placed);
    control_.finish();
    if (!all_have_it) throw OutOfMemory(refusal);
    std::erase_if(arenas_, [](const Arena& arena) { return arena.region.expired(); });
    arenas_.push_back({++last_arena_, region->data(), stride, region});
    std::byte* mine = region->data() + stride * static_cast<size_t>(rank_);
    auto keeper = std::make_unique<std::shared_ptr<Region>>(std::move(region));
    Storage storage = Storage::wrap(mine, bytes, Device::cpu(), 0, release_region, keeper.get());
    keeper.release();
    return storage;
  }

  std::unique_ptr<Transport> split(int color, const std::vector<int>& members) override {
    // The number of the last collective makes the name unique within this group.
    const std::string name = fmt::format("{}/{}.{}", control_.name(), control_.sequence(), color);
    return std::make_unique<SharedTransport>(
        peers_->subset(name, members, deadline_after(control_.timeout())), name,
        control_.timeout());
  }

  uint64_t place_of(const std::byte* data, size_t bytes) const override {
    for (const Arena& arena : arenas_) {
      const std::byte* mine = arena.base + arena.stride * static_cast<size_t>(rank_);
      if (std::less<>()(data, mine) || !std::less<>()(data, mine + arena.stride)) continue;
      const auto offset = static_cast<size_t>(data - mine);
      if (offset + bytes <= arena.stride && !arena.region.expired())
        return arena.id << kOffsetBits | offset;
    }
    return 0;
  }

  std::byte* at(uint64_t place, int rank) const override {
    const Arena& arena = arena_of(place);
    return arena.base + arena.stride * static_cast<size_t>(rank) + (place & kOffsetMask);
  }

  void abort(const std::string& reason) noexcept override {
    control_.end(Ending::aborted, rank_, reason);
  }

  void set_timeout(double seconds) override { control_.set_timeout(seconds); }
  std::vector<RankStatistics> statistics() const override { return control_.statistics(); }

 private:
  static size_t item(const Call& call) { return static_cast<size_t>(size_of(call.dtype)); }
  static size_t bytes_of(const Call& call) {
    return static_cast<size_t>(call.shape.numel()) * item(call);
  }
  size_t part_bytes() const { return kTile / static_cast<size_t>(size_) / kLine * kLine; }

  std::byte* tile(int rank, unsigned parity) const {
    return tiles_ + kTile * (2 * static_cast<size_t>(rank) + parity);
  }
  std::byte* chunk(int from, int to) const {
    return chunks_ + chunk_ * static_cast<size_t>(from * size_ + to);
  }
  static std::byte* piece(std::byte* data, int index, size_t bytes) {
    return data + static_cast<size_t>(index) * bytes;
  }
  static const std::byte* piece(const std::byte* data, int index, size_t bytes) {
    return data + static_cast<size_t>(index) * bytes;
  }

  /// Runs a collective tile by tile: fill(offset, n, own tile), a phase, drain(offset, n, parity).
  template <class Fill, class Drain>
  void exchange(const Call& call, size_t bytes, size_t step, const Fill& fill, const Drain& drain) {
    control_.begin(call);
    size_t offset = 0;
    do {
      const unsigned parity = control_.next_parity();
      const size_t n = std::min(step, bytes - offset);
      fill(offset, n, tile(rank_, parity));
      bool none_placed = false;
      if (offset == 0)
        control_.meet(0, none_placed);
      else
        control_.sync();
      drain(offset, n, parity);
      offset += n;
    } while (offset < bytes);
    control_.finish();
  }

  /// Fills a tile with the next n bytes of the piece for each rank.
  void fill_pieces(const std::byte* in, size_t bytes, size_t offset, size_t n,
                   std::byte* slot) const {
    for (int r = 0; r < size_; ++r)
      std::memcpy(piece(slot, r, part_bytes()), piece(in, r, bytes) + offset, n);
  }

  /// Every rank reduces everything, tile by tile.
  void reduce_everywhere(const Call& call, std::byte* data, size_t bytes, bool first_is_staged,
                         unsigned parity) {
    for (size_t offset = 0; offset < bytes;) {
      const size_t n = std::min(kTile, bytes - offset);
      if (offset != 0 || !first_is_staged) {
        parity = control_.next_parity();
        std::memcpy(tile(rank_, parity), data + offset, n);
        control_.sync();
      }
      for (int r = 0; r < size_; ++r) sources_[static_cast<size_t>(r)] = tile(r, parity);
      std::byte* const to = data + offset;
      sources_[static_cast<size_t>(rank_)] = to;
      reduce_into(call.dtype, call.op, sources_, {&to, 1}, n / item(call));
      offset += n;
    }
    if (bytes <= kSmall) take_next_tile(std::min(bytes, kSmall / 2));
  }

  /// Asks for the lines that the next call will write if it is like this one; the peers have read
  /// them and are done with them. They come while the program does something else.
  void take_next_tile(size_t bytes) const {
    const std::byte* next = tile(rank_, control_.next_parity());
    for (size_t offset = 0; offset < bytes; offset += kLine) fetch_to_write(next + offset);
  }

  /// Every rank reduces its slice of each tile, in everybody's tile.
  void reduce_slices(const Call& call, std::byte* data, size_t bytes, bool first_is_staged,
                     unsigned parity) {
    for (size_t offset = 0; offset < bytes;) {
      const size_t n = std::min(kTile, bytes - offset);
      if (offset != 0 || !first_is_staged) {
        parity = control_.next_parity();
        std::memcpy(tile(rank_, parity), data + offset, n);
        control_.sync();
      }
      for (int r = 0; r < size_; ++r) destinations_[static_cast<size_t>(r)] = tile(r, parity);
      reduce_own_slice(call, n);
      control_.sync();
      std::memcpy(data + offset, tile(rank_, parity), n);
      offset += n;
    }
  }

  void reduce_in_place(const Call& call, uint64_t place, size_t bytes) {
    for (int r = 0; r < size_; ++r) destinations_[static_cast<size_t>(r)] = at(place, r);
    reduce_own_slice(call, bytes);
    control_.sync();
  }

  /// Reduces this rank's slice of `destinations_`, each of `bytes`, into all of them.
  void reduce_own_slice(const Call& call, size_t bytes) {
    const auto ranks = static_cast<size_t>(size_), self = static_cast<size_t>(rank_);
    const size_t slice = round_up((bytes + ranks - 1) / ranks, kLine);
    const size_t begin = std::min(slice * self, bytes), end = std::min(begin + slice, bytes);
    for (size_t r = 0; r < ranks; ++r) sources_[r] = destinations_[r] += begin;
    reduce_into(call.dtype, call.op, sources_, destinations_, (end - begin) / item(call));
  }

  // Where data lies in the arenas, as one word equal on all ranks: the arena's number above, the
  // offset below; 0 for memory of any other kind.
  static constexpr int kOffsetBits = 44;
  static constexpr uint64_t kOffsetMask = (uint64_t{1} << kOffsetBits) - 1;

  const Arena& arena_of(uint64_t place) const {
    return *std::find_if(arenas_.begin(), arenas_.end(),
                         [place](const Arena& arena) { return arena.id == place >> kOffsetBits; });
  }

  std::unique_ptr<Peers> peers_;
  std::shared_ptr<Region> region_;
  Control control_;
  int rank_, size_;
  size_t chunk_;
  std::byte *tiles_, *chunks_;
  std::vector<const std::byte*> sources_;
  std::vector<std::byte*> destinations_;
  std::vector<uint64_t> sent_, received_;  ///< messages so far, to and from each rank
  std::vector<Arena> arenas_;
  uint64_t last_arena_ = 0;
};

}  // namespace

std::unique_ptr<Transport> make_shared_transport(std::unique_ptr<Peers> peers,
                                                 const std::string& name, double timeout) {
  return std::make_unique<SharedTransport>(std::move(peers), name, timeout);
}

std::unique_ptr<NodeTransport> make_node_transport(std::unique_ptr<Peers> peers,
                                                   const std::string& name, double timeout,
                                                   const std::vector<int>& labels) {
  return std::make_unique<SharedTransport>(std::move(peers), name, timeout, labels);
}

}  // namespace weft::inline v0::dist::detail
