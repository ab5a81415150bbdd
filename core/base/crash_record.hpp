// What a rank leaves behind for its launcher, as it lies in shared memory.
//
// Note [Crash record]
// The launcher makes one sealed memfd per job, with a slot per rank of the host, and passes it as
// WEFT_CRASH_FD. libweft maps the slot LOCAL_RANK when it is loaded. What the process writes there
// stays when the process is gone, however it went: which collective it was in even after SIGKILL,
// signal, address and stack after a fault, the exception's text after std::terminate. The launcher
// reads the slot when the rank has ended; as a buggy rank may have written anything, it takes every
// count and every text as untrusted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace weft::inline v0::detail {

inline constexpr uint64_t kCrashMagic = 0x6873726374666577u;  // "weftcrsh"
inline constexpr uint32_t kCrashAbi = 1;
inline constexpr int kCrashFrames = 48;
inline constexpr int kCrashLanes = 8;
inline constexpr size_t kCrashPaths = 4096;
inline constexpr size_t kCrashHeaderBytes = 4096;
inline constexpr size_t kCrashSlotBytes = 16384;

/// The first page of the file.
struct CrashHeader {
  uint64_t magic;
  uint32_t abi;
  uint32_t slots;
};

struct CrashFrame {
  uint64_t pc;
  uint64_t file_offset;  ///< of `pc` in the file it was mapped from; meaningless without a path
  uint32_t path;         ///< where in `paths` the file's name begins; kCrashPaths: none
  uint32_t unused;
};

/// The collectives of one group.
struct CrashLane {
  std::atomic<uint32_t> taken;
  std::atomic<uint32_t> running;  ///< the collective below has begun and not ended
  std::atomic<uint64_t> stamp;    ///< orders the lanes by their last change
  std::atomic<uint64_t> sequence, completed;
  char group[40];
  char name[16], dtype[8], op[8], peer[12];  ///< "all_reduce", "f32", "sum", "from rank"
  int32_t root, dims;
  int64_t shape[8];
};

struct CrashSlot {
  std::atomic<int32_t> pid;  ///< of the process whose slot it is; 0: none yet

  std::atomic<uint32_t> signal;  ///< nothing below holds while it is 0
  int32_t code, tid, sender;
  uint64_t address, stack_pointer;
  char thread[16];
  std::atomic<uint32_t> frames;
  CrashFrame frame[kCrashFrames];
  char paths[kCrashPaths];

  std::atomic<uint32_t> has_exception;
  char exception_type[256];  ///< as the compiler mangles it
  char exception_text[1024];

  std::atomic<uint32_t> comm_ended;  ///< a group ended; for what reason is below
  int32_t lost_rank, lost_pid;       ///< -1 where nobody was lost
  char comm_text[1024];

  std::atomic<uint64_t> stamps;
  CrashLane lane[kCrashLanes];
};
static_assert(sizeof(CrashSlot) <= kCrashSlotBytes);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

inline constexpr size_t crash_slot_at(int slot) {
  return kCrashHeaderBytes + kCrashSlotBytes * static_cast<size_t>(slot);
}

}  // namespace weft::inline v0::detail
