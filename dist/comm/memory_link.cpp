// Links between threads: what spans nodes, in one process, so that tests and the thread sanitizer
// see all of it but the network.
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include <weft/dist/comm/cross_link.hpp>

namespace weft::inline v0::dist::detail {

namespace {

constexpr auto kSlice = std::chrono::milliseconds(20);

/// What the processes of one link share.
struct Mesh {
  using Key = std::tuple<int, int, uint64_t>;  // from, to, slot
  std::mutex mutex;
  std::condition_variable changed;
  std::map<Key, std::deque<std::vector<std::byte>>> messages;
  std::vector<bool> closed;
};

class MemoryTransfer final : public Transfer {
 public:
  MemoryTransfer(std::shared_ptr<Mesh> mesh, int from, int to, uint64_t slot, std::byte* data,
                 size_t bytes)
      : mesh_(std::move(mesh)), from_(from), to_(to), slot_(slot), data_(data), bytes_(bytes) {}

  bool wait() override {
    if (data_ == nullptr) return true;  // sent
    std::unique_lock lock(mesh_->mutex);
    auto& queue = mesh_->messages[{from_, to_, slot_}];
    mesh_->changed.wait_for(lock, kSlice, [&] {
      return !queue.empty() || mesh_->closed[static_cast<size_t>(from_)] ||
             mesh_->closed[static_cast<size_t>(to_)];
    });
    if (queue.empty()) {
      if (mesh_->closed[static_cast<size_t>(from_)] || mesh_->closed[static_cast<size_t>(to_)])
        throw LinkBroken(from_, "connection closed");
      return false;
    }
    // gloo ends the process here: what checks the calls beforehand must not let it come to this.
    if (queue.front().size() != bytes_)
      throw std::logic_error("a message of " + std::to_string(queue.front().size()) +
                             " bytes instead of " + std::to_string(bytes_));
    std::memcpy(data_, queue.front().data(), bytes_);
    queue.pop_front();
    return true;
  }

 private:
  std::shared_ptr<Mesh> mesh_;
  int from_, to_;
  uint64_t slot_;
  std::byte* data_;
  size_t bytes_;
};

class MemoryLink final : public CrossLink {
 public:
  MemoryLink(std::shared_ptr<Mesh> mesh, int rank, int size)
      : mesh_(std::move(mesh)), rank_(rank), size_(size) {}
  ~MemoryLink() override { MemoryLink::close(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Transfer> send(int peer, uint64_t slot, const std::byte* data,
                                 size_t bytes) override {
    {
      const std::lock_guard lock(mesh_->mutex);
      if (mesh_->closed[static_cast<size_t>(peer)] || mesh_->closed[static_cast<size_t>(rank_)])
        throw LinkBroken(peer, "connection closed");
      mesh_->messages[{rank_, peer, slot}].emplace_back(data, data + bytes);
    }
    mesh_->changed.notify_all();
    return std::make_unique<MemoryTransfer>(mesh_, rank_, peer, slot, nullptr, bytes);
  }

  std::unique_ptr<Transfer> receive(int peer, uint64_t slot, std::byte* data,
                                    size_t bytes) override {
    return std::make_unique<MemoryTransfer>(mesh_, peer, rank_, slot, data, bytes);
  }

  void close() noexcept override {
    {
      const std::lock_guard lock(mesh_->mutex);
      mesh_->closed[static_cast<size_t>(rank_)] = true;
    }
    mesh_->changed.notify_all();
  }

 private:
  std::shared_ptr<Mesh> mesh_;
  int rank_, size_;
};

class MemoryConnector final : public Connector {
 public:
  std::unique_ptr<CrossLink> connect(const std::string& name, int rank, int size, TimePoint,
                                     const std::function<void()>&) override {
    const std::lock_guard lock(mutex_);
    auto& [mesh, joined] = meshes_[name];
    if (mesh == nullptr) {
      mesh = std::make_shared<Mesh>();
      mesh->closed.resize(static_cast<size_t>(size));
    }
    auto link = std::make_unique<MemoryLink>(mesh, rank, size);
    if (++joined == size) meshes_.erase(name);
    return link;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::pair<std::shared_ptr<Mesh>, int>> meshes_;
};

}  // namespace

std::shared_ptr<Connector> make_memory_connector() { return std::make_shared<MemoryConnector>(); }

}  // namespace weft::inline v0::dist::detail
