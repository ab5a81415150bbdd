// Ranks that are threads: the same control block and the same waits over anonymous memory.
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include <weft/core/base/check.hpp>
#include <weft/dist/comm/peers.hpp>

namespace weft::inline v0::dist::detail {

namespace {

/// Where the threads meet: regions by their number, subsets by their name.
struct Hall {
  struct Place {
    std::shared_ptr<Region> region;
    int taken = 0;
  };
  std::mutex mutex;
  std::map<size_t, Place> regions;
  std::map<std::string, std::weak_ptr<Hall>> subsets;
};

class ThreadPeers final : public Peers {
 public:
  ThreadPeers(std::shared_ptr<Hall> hall, int rank, int size)
      : hall_(std::move(hall)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::shared_ptr<Region> share(size_t bytes, TimePoint) override {
    const std::lock_guard lock(hall_->mutex);
    Hall::Place& place = hall_->regions[next_];
    if (place.region == nullptr) place.region = std::make_shared<Region>(Region::anonymous(bytes));
    std::shared_ptr<Region> region = place.region;
    if (++place.taken == size_) hall_->regions.erase(next_);
    ++next_;
    return region;
  }

  std::optional<std::string> gone(int) override { return std::nullopt; }

  std::unique_ptr<Peers> subset(const std::string& name, const std::vector<int>& members,
                                TimePoint) override {
    const std::lock_guard lock(hall_->mutex);
    std::shared_ptr<Hall> hall = hall_->subsets[name].lock();
    if (hall == nullptr) hall_->subsets[name] = hall = std::make_shared<Hall>();
    int rank = 0;
    while (members[static_cast<size_t>(rank)] != rank_) ++rank;
    return std::make_unique<ThreadPeers>(hall, rank, static_cast<int>(members.size()));
  }

 private:
  std::shared_ptr<Hall> hall_;
  int rank_, size_;
  size_t next_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Peers>> join_threads(int size) {
  const auto hall = std::make_shared<Hall>();
  std::vector<std::unique_ptr<Peers>> peers;
  for (int rank = 0; rank < size; ++rank)
    peers.push_back(std::make_unique<ThreadPeers>(hall, rank, size));
  return peers;
}

}  // namespace weft::inline v0::dist::detail
