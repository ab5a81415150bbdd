#include <weft/core/base/crash.hpp>

#include <cxxabi.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <exception>
#include <optional>
#include <typeinfo>

#include <weft/core/base/env.hpp>
#include <weft/core/base/error.hpp>

namespace weft::inline v0::detail {

namespace {

constexpr std::array kSignals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr size_t kStackBytes = 64 * 1024;  // for the handler: unwinding and AVX-512 state fit in

CrashSlot* own_slot = nullptr;
pid_t own_pid = 0;  // a child by fork shares the mapping, but the slot is not its
std::array<struct sigaction, kSignals.size()> handlers_before;
std::terminate_handler terminate_before = nullptr;
std::atomic<int> dying_thread = 0;

template <size_t kSize>
void copy_text(char (&to)[kSize], const char* from) {
  const size_t length = ::strnlen(from, kSize - 1);
  std::memcpy(to, from, length);
  to[length] = '\0';
}

/// The file that each frame's code was mapped from, read from /proc/self/maps with nothing but
/// system calls; without /proc the launcher shows bare addresses.
class ModuleReader {
 public:
  explicit ModuleReader(CrashSlot& slot) : slot_(slot) {}

  void run() {
    const int file = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    size_t used = 0;
    for (ssize_t got = 0; (got = ::read(file, text_ + used, sizeof text_ - used)) > 0;) {
      used += static_cast<size_t>(got);
      size_t start = 0;
      while (const char* end =
                 static_cast<const char*>(std::memchr(text_ + start, '\n', used - start))) {
        take_line(text_ + start, end);
        start = static_cast<size_t>(end - text_) + 1;
      }
      std::memmove(text_, text_ + start, used - start);
      used -= start;
      if (used == sizeof text_) used = 0;  // a line longer than any path
    }
    ::close(file);
  }

 private:
  /// "LOW-HIGH rwxp OFFSET DEVICE INODE   PATH"
  void take_line(const char* at, const char* end) {
    uint64_t low = 0, high = 0, offset = 0;
    at = std::from_chars(at, end, low, 16).ptr + 1;
    if (at >= end) return;
    at = std::from_chars(at, end, high, 16).ptr + 6;
    if (at >= end) return;
    at = std::from_chars(at, end, offset, 16).ptr;
    const char* path =
        static_cast<const char*>(std::memchr(at, '/', static_cast<size_t>(end - at)));
    uint32_t place = kCrashPaths;
    const uint32_t count = slot_.frames.load(std::memory_order_relaxed);
    for (uint32_t i = 0; path != nullptr && i < count; ++i) {
      CrashFrame& frame = slot_.frame[i];
      if (frame.pc < low || frame.pc >= high) continue;
      if (place == kCrashPaths) place = keep(path, static_cast<size_t>(end - path));
      frame.file_offset = frame.pc - low + offset;
      frame.path = place;
    }
  }

  uint32_t keep(const char* path, size_t length) {
    // The maps of one file follow each other.
    if (length == last_length_ && std::memcmp(slot_.paths + last_, path, length) == 0) return last_;
    if (used_ + length + 1 > kCrashPaths) return kCrashPaths;
    last_ = used_;
    last_length_ = length;
    std::memcpy(slot_.paths + used_, path, length);
    slot_.paths[used_ + length] = '\0';
    used_ += static_cast<uint32_t>(length + 1);
    return last_;
  }

  CrashSlot& slot_;
  uint32_t used_ = 0, last_ = 0;
  size_t last_length_ = 0;
  char text_[8192];
};

struct Registers {
  uint64_t pc = 0, stack = 0;
};

Registers registers_of(const ucontext_t& context) {
#if defined(__x86_64__)
  return {static_cast<uint64_t>(context.uc_mcontext.gregs[REG_RIP]),
          static_cast<uint64_t>(context.uc_mcontext.gregs[REG_RSP])};
#elif defined(__aarch64__)
  return {context.uc_mcontext.pc, context.uc_mcontext.sp};
#else
  static_cast<void>(context);
  return {};
#endif
}

/// The word at `address`, where there is memory.
std::optional<uint64_t> peek(uint64_t address) {
  uint64_t word = 0;
  iovec to{&word, sizeof word}, from{reinterpret_cast<void*>(address), sizeof word};
  if (::syscall(SYS_process_vm_readv, ::getpid(), &to, 1, &from, 1, 0) != sizeof word) return {};
  return word;
}

/// The interrupted code first. backtrace() takes no lock once it has been called (at load, below);
/// that it crosses the signal's frame is what unwind tables are for.
void write_frames(CrashSlot& slot, const Registers& registers) {
  void* found[kCrashFrames + 8];
  const int count = ::backtrace(found, kCrashFrames + 8);
  int from = 0;
  while (from < count && reinterpret_cast<uint64_t>(found[from]) != registers.pc) ++from;
  uint32_t written = 0;
  const auto add = [&](uint64_t pc) {
    if (written < kCrashFrames) slot.frame[written++] = {pc, 0, kCrashPaths, 0};
  };
  if (from == count) {
    // A jump to an address without code: who called is what the call pushed.
    add(registers.pc);
#if defined(__x86_64__)
    if (const auto caller = peek(registers.stack)) add(*caller);
#endif
  }
  for (int i = from; i < count; ++i) add(reinterpret_cast<uint64_t>(found[i]));
  slot.frames.store(written, std::memory_order_release);
}

void write_record(int signal, const siginfo_t& info, const ucontext_t& context) {
  CrashSlot& slot = *own_slot;
  const Registers registers = registers_of(context);
  slot.code = info.si_code;
  slot.tid = static_cast<int32_t>(::syscall(SYS_gettid));
  slot.sender = info.si_code <= 0 ? info.si_pid : 0;
  slot.address = info.si_code > 0 ? reinterpret_cast<uint64_t>(info.si_addr) : 0;
  slot.stack_pointer = registers.stack;
  ::prctl(PR_GET_NAME, slot.thread);
  slot.signal.store(static_cast<uint32_t>(signal), std::memory_order_release);
  write_frames(slot, registers);
  ModuleReader(slot).run();
}

/// Has the signal do what it would have done without us, sender and address as they were.
void raise_again(int signal, const siginfo_t& info) {
  siginfo_t copy = info;
  const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
  if (::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), self, signal, &copy) != 0) ::raise(signal);
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto self = static_cast<int>(::syscall(SYS_gettid));
  int nobody = 0;
  // One record per process; a fault inside this handler comes back here and goes straight on. A
  // child by fork leaves its parent's record alone.
  if (::getpid() == own_pid && dying_thread.compare_exchange_strong(nobody, self))
    write_record(signal, *info, *static_cast<const ucontext_t*>(context));
  // Another thread's record is to be whole before this thread's signal ends the process.
  for (int i = 0; i < 100 && nobody != 0 && nobody != self && dying_thread.load() == nobody; ++i) {
    const timespec moment{0, 10'000'000};
    ::nanosleep(&moment, nullptr);
  }
  size_t index = 0;
  while (kSignals[index] != signal) ++index;
  const struct sigaction& before = handlers_before[index];
  const bool nested = nobody == self;
  const bool plain = before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN;
  errno = saved_errno;
  if (!nested && (before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
    dying_thread.store(0);  // that handler chose to go on
  } else if (!nested && !plain) {
    before.sa_handler(signal);
    dying_thread.store(0);
  } else {
    ::signal(signal, SIG_DFL);
    raise_again(signal, *info);
  }
}

[[noreturn]] void on_terminate() {
  const std::type_info* type = abi::__cxa_current_exception_type();
  if (type != nullptr && ::getpid() == own_pid) {
    copy_text(own_slot->exception_type, type->name());
    try {
      throw;
    } catch (const std::exception& error) {
      copy_text(own_slot->exception_text, error.what());
    } catch (...) {
      own_slot->exception_text[0] = '\0';  // its type says what can be said
    }
    own_slot->has_exception.store(1, std::memory_order_release);
  }
  terminate_before();
  __builtin_trap();  // it may not return
}

/// The slot of this process in the launcher's file, or null. The number of the descriptor is not
/// proof: a program between the launcher and this one may have closed it and opened another file.
CrashSlot* map_slot() {
  std::optional<int64_t> fd, slot;
  try {
    fd = env::get_int("WEFT_CRASH_FD", 0, 1 << 20);
    slot = env::get_int("LOCAL_RANK", 0, 1 << 20);
  } catch (const ArgumentError&) {
    return nullptr;  // whoever reads LOCAL_RANK for its meaning says what is wrong with it
  }
  const int file = static_cast<int>(fd.value_or(-1));
  const int seals = fd ? ::fcntl(file, F_GET_SEALS) : -1;
  if (!slot || seals < 0 || (seals & F_SEAL_SHRINK) == 0) return nullptr;
  CrashHeader header{};
  struct stat info {};
  const int number = static_cast<int>(*slot);
  if (::pread(file, &header, sizeof header, 0) != sizeof header || header.magic != kCrashMagic ||
      header.abi != kCrashAbi || *slot >= header.slots || ::fstat(file, &info) != 0 ||
      info.st_size < static_cast<off_t>(crash_slot_at(number + 1)))
    return nullptr;
  ::fcntl(file, F_SETFD, FD_CLOEXEC);
  void* at = ::mmap(nullptr, kCrashSlotBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                    static_cast<off_t>(crash_slot_at(number)));
  return at == MAP_FAILED ? nullptr : static_cast<CrashSlot*>(at);
}

/// Takes the slot where it is free, or where whoever had it is gone: a rank may be a script that
/// runs one program after the other.
bool claim(CrashSlot& slot, pid_t self) {
  int32_t owner = slot.pid.load(std::memory_order_acquire);
  while (owner == 0 || owner == self || (::kill(owner, 0) != 0 && errno == ESRCH)) {
    if (!slot.pid.compare_exchange_weak(owner, self)) continue;
    if (owner != 0)
      std::memset(reinterpret_cast<char*>(&slot) + sizeof slot.pid, 0,
                  sizeof(CrashSlot) - sizeof slot.pid);
    return true;
  }
  return false;
}

void install_handlers() {
  // The first call loads the unwinder, which takes locks and memory; later ones do not.
  void* nowhere[1];
  ::backtrace(nowhere, 1);
  stack_t stack{};
  if (::sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_DISABLE) != 0) {
    // Lives as long as the thread that loads libweft. A program's other threads run the handler on
    // their own stacks, which serves for all but their overflow.
    void* memory = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    stack = {memory, 0, kStackBytes};
    if (memory != MAP_FAILED) ::sigaltstack(&stack, nullptr);
  }
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (::sigaction(kSignals[i], nullptr, &handlers_before[i]) != 0 ||
        handlers_before[i].sa_handler == SIG_IGN)
      continue;
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    // SA_NODEFER: a fault while the record is written must come back, not kill without a trace.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    ::sigaction(kSignals[i], &action, nullptr);
  }
  terminate_before = std::set_terminate(on_terminate);
}

/// Runs when libweft is loaded, not at the first call of something: a program that crashes before
/// it has made a tensor, or that makes none on this path, is to leave a record as well, and no
/// program should need a line for it. Does nothing unless a launcher started the process. Handlers
/// that the program installs later replace these, as it wishes.
[[gnu::constructor]] void attach_crash_record() {
  CrashSlot* slot = map_slot();
  if (slot == nullptr) return;
  const pid_t self = ::getpid();
  if (!claim(*slot, self)) {
    ::munmap(slot, kCrashSlotBytes);
    return;
  }
  own_slot = slot;
  own_pid = self;
  install_handlers();
}

CrashLane* take_lane(const std::string& group) {
  if (own_slot == nullptr || ::getpid() != own_pid) return nullptr;
  for (CrashLane& lane : own_slot->lane) {
    if (lane.taken.exchange(1, std::memory_order_acq_rel) != 0) continue;
    lane.running.store(0, std::memory_order_relaxed);
    lane.sequence.store(0, std::memory_order_relaxed);
    lane.completed.store(0, std::memory_order_relaxed);
    copy_text(lane.group, group.c_str());
    return &lane;
  }
  return nullptr;
}

}  // namespace

CollectiveNotes::CollectiveNotes(const std::string& group)
    : lane_(take_lane(group)), stamps_(lane_ == nullptr ? nullptr : &own_slot->stamps) {}

CollectiveNotes::~CollectiveNotes() {
  if (lane_ != nullptr && ::getpid() == own_pid) lane_->taken.store(0, std::memory_order_release);
}

void CollectiveNotes::write_names(uint64_t key, const CollectiveWords& words) {
  key_ = key;
  copy_text(lane_->name, words.name);
  copy_text(lane_->dtype, words.dtype);
  copy_text(lane_->op, words.op);
  copy_text(lane_->peer, words.peer);
  lane_->root = words.root;
}

void note_group_ended(int rank, int pid, const std::string& text) noexcept {
  if (own_slot == nullptr || own_slot->comm_ended.exchange(1) != 0) return;
  own_slot->lost_rank = rank;
  own_slot->lost_pid = pid;
  copy_text(own_slot->comm_text, text.c_str());
  own_slot->comm_ended.store(2, std::memory_order_release);
}

}  // namespace weft::inline v0::detail
