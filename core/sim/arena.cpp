#include <weft/core/sim/arena.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <weft/core/base/check.hpp>

namespace weft::inline v0::detail {

SimArena::SimArena(size_t bytes) : bytes_(bytes) {
  const int file = ::memfd_create("weft-sim", MFD_CLOEXEC);
  WEFT_CHECK(IoError, file >= 0, "sim: no memory file: {}", std::strerror(errno));
  const bool sized = ::ftruncate(file, static_cast<off_t>(bytes)) == 0;
  void* hidden = ::mmap(nullptr, bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
  void* open = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  const int error = errno;
  ::close(file);
  if (hidden != MAP_FAILED) untouchable_ = static_cast<std::byte*>(hidden);
  if (open != MAP_FAILED) touchable_ = static_cast<std::byte*>(open);
  if (!sized || untouchable_ == nullptr || touchable_ == nullptr) {
    if (untouchable_ != nullptr) ::munmap(untouchable_, bytes);
    if (touchable_ != nullptr) ::munmap(touchable_, bytes);
    fail<IoError>("sim: {} bytes of memory cannot be mapped: {}", bytes, std::strerror(error));
  }
}

SimArena::~SimArena() {
  ::munmap(untouchable_, bytes_);
  ::munmap(touchable_, bytes_);
}

bool SimArena::is_ready(const SimBlock& block, const Stream& stream) const {
  return std::all_of(block.pending.begin(), block.pending.end(), [&stream](const auto& entry) {
    return entry.first == &stream || entry.first->event_done(entry.second);
  });
}

std::unique_ptr<SimBlock> SimArena::take(size_t bytes, Stream& stream) {
  constexpr size_t kGrain = 256;
  const size_t size = std::max((bytes + kGrain - 1) / kGrain * kGrain, kGrain);
  const std::lock_guard lock(mutex_);
  const auto limit = static_cast<size_t>(stats_.limit > 0 ? stats_.limit : int64_t(bytes_));
  if (static_cast<size_t>(stats_.allocated) + size > limit) return nullptr;
  std::unique_ptr<SimBlock> block;
  // At most twice the size, so that small requests do not eat large blocks.
  for (auto it = free_.lower_bound(size); it != free_.end() && it->first <= 2 * size; ++it) {
    if (!is_ready(*it->second, stream)) continue;
    block = std::move(it->second);
    free_.erase(it);
    ++stats_.cache_hits;
    break;
  }
  if (!block) {
    if (top_ + size > bytes_) return nullptr;
    block = std::make_unique<SimBlock>();
    block->offset = top_;
    block->bytes = size;
    top_ += size;
    stats_.reserved = static_cast<int64_t>(top_);
  }
  block->pending.clear();
  block->owner = &stream;
  stats_.allocated += static_cast<int64_t>(block->bytes);
  stats_.peak_allocated = std::max(stats_.peak_allocated, stats_.allocated);
  ++stats_.allocations;
  return block;
}

void SimArena::give(std::unique_ptr<SimBlock> block) {
  const std::lock_guard lock(mutex_);
  stats_.allocated -= static_cast<int64_t>(block->bytes);
  block->pending.emplace_back(block->owner, block->owner->record_event());
  for (auto& [stream, event] : block->pending) event = stream->record_event();
  const size_t size = block->bytes;
  free_.emplace(size, std::move(block));
}

void SimArena::used_on(SimBlock& block, Stream& stream) {
  const std::lock_guard lock(mutex_);
  for (const auto& [known, event] : block.pending)
    if (known == &stream) return;
  if (&stream != block.owner) block.pending.emplace_back(&stream, 0);
}

MemoryStats SimArena::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void SimArena::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_allocated = stats_.allocated;
}

void SimArena::set_limit(int64_t bytes) {
  WEFT_CHECK(ArgumentError, bytes >= 0, "set_memory_limit: {} bytes; use 0 for no limit", bytes);
  const std::lock_guard lock(mutex_);
  stats_.limit = bytes;
}

}  // namespace weft::inline v0::detail
