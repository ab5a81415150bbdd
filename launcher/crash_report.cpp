#include <weft/launcher/crash_report.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include <weft/core/base/check.hpp>
#include <weft/launcher/ending.hpp>
#include <weft/launcher/symbols.hpp>

namespace weft::inline v0::launcher {

using weft::detail::CrashLane;
using weft::detail::CrashSlot;
using weft::detail::kCrashFrames;
using weft::detail::kCrashHeaderBytes;
using weft::detail::kCrashPaths;
using weft::detail::kCrashSlotBytes;

namespace {

constexpr size_t kFramesShown = 16;
constexpr size_t kNameWidth = 110;  // of a function; templates have long ones
constexpr uint64_t kNearStack = 64 * 1024;

/// A text of the slot: up to its end or the field's, without what a terminal would act on.
template <size_t kSize>
std::string text_of(const char (&field)[kSize]) {
  std::string text(field, ::strnlen(field, kSize));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

std::string cut(std::string text, size_t width) {
  if (text.size() > width) text = text.substr(0, width - 3) + "...";
  return text;
}

/// What the kernel's si_code says about a fault.
const char* reason_of(int signal, int code) {
  switch (signal) {
    case SIGSEGV:
      if (code == SEGV_MAPERR) return "no memory is mapped there";
      if (code == SEGV_ACCERR) return "the memory there does not permit it";
      return "";
    case SIGBUS:
      if (code == BUS_ADRALN) return "the address is not aligned";
      if (code == BUS_ADRERR)
        return "beyond the end of a mapped file, or its storage had no room or an error";
      return "the memory failed";
    case SIGFPE:
      if (code == FPE_INTDIV) return "integer division by zero";
      if (code == FPE_INTOVF) return "integer overflow";
      return "a floating-point exception that the program enabled";
    case SIGILL: return "an instruction that this CPU does not have, or no instruction at all";
    default: return "";
  }
}

std::string cause(const CrashSlot& slot, int signal) {
  const std::string thread = text_of(slot.thread);
  std::string text = signal_name(signal);
  if (slot.code <= 0) {
    if (slot.code == SI_USER || slot.code == SI_QUEUE)
      text += fmt::format(" sent by process {}", slot.sender);
    else
      text += signal == SIGABRT ? " raised by abort()" : " raised by the program itself";
  } else if (slot.code == SI_KERNEL) {
    text += ": an access through an address that no memory can have";
  } else {
    text += fmt::format(" at address {:#x}: {}", slot.address, reason_of(signal, slot.code));
    if (signal == SIGSEGV && slot.address < 4096) text += " (a null pointer)";
    const uint64_t distance = slot.address > slot.stack_pointer ? slot.address - slot.stack_pointer
                                                                : slot.stack_pointer - slot.address;
    if (signal == SIGSEGV && slot.address >= 4096 && distance < kNearStack)
      text += " (the stack is full: endless recursion?)";
  }
  return text + fmt::format(", in thread '{}' ({})", thread, slot.tid);
}

struct Frame {
  std::string module, symbol, text;
};

Frame frame_of(const CrashSlot& slot, uint32_t index) {
  const weft::detail::CrashFrame& raw = slot.frame[index];
  Frame frame;
  if (raw.path >= kCrashPaths) {
    frame.text = fmt::format("{:#x}", raw.pc);
    return frame;
  }
  const std::string path(slot.paths + raw.path,
                         ::strnlen(slot.paths + raw.path, kCrashPaths - raw.path));
  frame.module = path.substr(path.rfind('/') + 1);
  for (char& c : frame.module)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  // A return address may be the first byte behind its function, where the call does not return.
  frame.symbol = symbol_at(path, index == 0 ? raw.file_offset : raw.file_offset - 1);
  frame.text =
      fmt::format("{} ({}+{:#x})", frame.symbol.empty() ? "?" : cut(frame.symbol, kNameWidth),
                  cut(frame.module, kNameWidth), raw.file_offset);
  return frame;
}

bool starts_thread(const std::string& symbol) {
  return symbol.starts_with("__libc_start") || symbol == "_start" || symbol == "start_thread" ||
         symbol == "__clone3" || symbol == "__clone";
}

bool only_aborts(const std::string& module) {
  return module.starts_with("libc.so") || module.starts_with("libstdc++.so") ||
         module.starts_with("libgcc_s.so");
}

std::vector<std::string> stack_lines(const CrashSlot& slot, int signal) {
  std::vector<Frame> frames;
  const uint32_t count = std::min<uint32_t>(slot.frames.load(), kCrashFrames);
  for (uint32_t i = 0; i < count; ++i) {
    Frame frame = frame_of(slot, i);
    if (starts_thread(frame.symbol)) break;
    const bool last = frame.symbol == "main";
    frames.push_back(std::move(frame));
    if (last) break;
  }
  // How abort() and terminate() get from the program's code to the signal helps nobody.
  if (signal == SIGABRT) {
    const auto own = std::find_if(frames.begin(), frames.end(),
                                  [](const Frame& frame) { return !only_aborts(frame.module); });
    // The exception hook is libweft's and lies in between.
    const auto hook = std::find_if(frames.begin(), frames.end(), [](const Frame& frame) {
      return frame.symbol.find("::on_terminate()") != std::string::npos;
    });
    auto from =
        hook == frames.end() ? own : std::find_if(hook + 1, frames.end(), [](const Frame& frame) {
          return !only_aborts(frame.module);
        });
    if (from != frames.end()) frames.erase(frames.begin(), from);
  }
  std::vector<std::string> lines;
  for (size_t i = 0, next = 0; i < frames.size(); i = next) {
    for (next = i + 1; next < frames.size() && frames[next].text == frames[i].text;) ++next;
    if (lines.size() == kFramesShown) {
      lines.push_back(fmt::format("  and {} more", frames.size() - i));
      break;
    }
    lines.push_back(fmt::format("  #{:<2} {}", i, frames[i].text));
    if (next - i > 1) lines.back() += fmt::format(", {} times in a row", next - i);
  }
  return lines;
}

std::string words(const CrashLane& lane) {
  std::string text = fmt::format("{} #{}", text_of(lane.name), lane.sequence.load());
  const std::string dtype = text_of(lane.dtype), op = text_of(lane.op), peer = text_of(lane.peer);
  if (!dtype.empty()) {
    std::string shape;
    for (int i = 0; i < std::clamp(lane.dims, 0, 8); ++i)
      shape += fmt::format("{}{}", i == 0 ? "" : ", ", lane.shape[i]);
    text += fmt::format(" ({} [{}]", dtype, shape);
    if (!op.empty()) text += ", " + op;
    if (!peer.empty()) text += fmt::format(", {} {}", peer, lane.root);
    text += ")";
  }
  return text + fmt::format(" of group '{}'", text_of(lane.group));
}

}  // namespace

CrashRecords::CrashRecords(int ranks) {
  dist::detail::Fd file(::memfd_create("weft crash records", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const auto bytes =
      static_cast<off_t>(kCrashHeaderBytes + kCrashSlotBytes * static_cast<size_t>(ranks));
  weft::detail::CrashHeader header{weft::detail::kCrashMagic, weft::detail::kCrashAbi,
                                   static_cast<uint32_t>(ranks)};
  // Allocated now: a page that is missing when a rank crashes would only make it worse.
  if (file && ::ftruncate(file.get(), bytes) == 0 && ::fallocate(file.get(), 0, 0, bytes) == 0 &&
      ::pwrite(file.get(), &header, sizeof header, 0) == sizeof header &&
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
    file_ = std::move(file);
}

std::unique_ptr<const CrashSlot> CrashRecords::read(int local_rank) const {
  // Not value-initialised into a copy of its own: the slot's words are atomic and cannot be copied.
  auto slot = std::make_unique<CrashSlot>();
  if (!file_ || ::pread(file_.get(), static_cast<void*>(slot.get()), sizeof *slot,
                        static_cast<off_t>(weft::detail::crash_slot_at(local_rank))) !=
                    static_cast<ssize_t>(sizeof *slot))
    return nullptr;
  return slot->pid.load() == 0 ? nullptr : std::move(slot);
}

std::vector<std::string> crash_lines(const CrashSlot& slot, pid_t pid) {
  std::vector<std::string> lines;
  if (slot.pid.load() != pid)
    lines.push_back(
        fmt::format("what follows is of process {}, which the rank started", slot.pid.load()));
  const auto signal = static_cast<int>(std::min<uint32_t>(slot.signal.load(), 64));
  if (signal != 0) {
    lines.push_back(cause(slot, signal));
    for (std::string& line : stack_lines(slot, signal)) lines.push_back(std::move(line));
    if (slot.frames.load() == 0) lines.push_back("  its stack cannot be read");
  }
  for (std::string& line : collective_lines(slot)) lines.push_back(std::move(line));
  if (slot.has_exception.load() != 0) {
    const std::string text = text_of(slot.exception_text);
    lines.push_back(fmt::format("uncaught {}{}{}",
                                cut(demangled(text_of(slot.exception_type)), 200),
                                text.empty() ? "" : ": ", text));
  }
  return lines;
}

std::vector<std::string> collective_lines(const CrashSlot& slot) {
  std::vector<std::string> lines;
  const CrashLane* latest = nullptr;
  for (const CrashLane& lane : slot.lane) {
    if (lane.sequence.load() == 0) continue;
    if (latest == nullptr || lane.stamp.load() > latest->stamp.load()) latest = &lane;
    if (lane.running.load() == 0) continue;
    lines.push_back("in " + words(lane) +
                    (lane.completed.load() == 0
                         ? std::string("; none completed")
                         : fmt::format("; last completed #{}", lane.completed.load())));
  }
  if (lines.empty() && latest != nullptr)
    lines.push_back("in no collective; last completed " + words(*latest));
  return lines;
}

std::optional<GroupEnd> group_end(const CrashSlot& slot) {
  if (slot.comm_ended.load() != 2) return std::nullopt;
  return GroupEnd{slot.lost_pid, text_of(slot.comm_text)};
}

}  // namespace weft::inline v0::launcher
