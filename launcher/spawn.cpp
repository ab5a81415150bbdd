#include <weft/launcher/spawn.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>

namespace weft::inline v0::launcher {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  all.reserve(texts.size() + 1);
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

/// A set of CPUs as the kernel takes it.
using CpuMask = std::vector<unsigned long>;

CpuMask mask_of(const std::vector<int>& cpus) {
  constexpr size_t kBits = 8 * sizeof(unsigned long);
  CpuMask mask;
  for (const int cpu : cpus) {
    const auto bit = static_cast<size_t>(cpu);
    if (mask.size() <= bit / kBits) mask.resize(bit / kBits + 1);
    mask[bit / kBits] |= 1ul << bit % kBits;
  }
  return mask;
}

/// In the child, between fork and exec: only what is safe there, as the launcher has threads.
[[noreturn]] void become(const SpawnContext& context, int rank, char* const* argv,
                         char* const* environment, const Streams& streams, const CpuMask& mask,
                         pid_t launcher) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launcher) ::_exit(126);  // the launcher died before the call above

  // dup2 also clears close-on-exec; nothing that streams name is 0, 1 or 2 out of place, as the
  // launcher keeps those three open.
  if (streams.in != 0) ::dup2(streams.in, 0);
  if (streams.out != 1) ::dup2(streams.out, 1);
  if (streams.err != 2) ::dup2(streams.err, 2);
  // A CPU that has gone off line since is no reason not to start.
  if (!mask.empty())
    ::sched_setaffinity(0, mask.size() * sizeof mask[0],
                        reinterpret_cast<const cpu_set_t*>(mask.data()));
  if (context.crash_fd >= 0) ::fcntl(context.crash_fd, F_SETFD, 0);
  ::setrlimit(RLIMIT_NOFILE, &context.open_files);
  ::sigaction(SIGPIPE, &context.pipe_action, nullptr);
  ::sigprocmask(SIG_SETMASK, &context.signal_mask, nullptr);
  ::execve(context.path.c_str(), argv, environment);

  const ExecReport report{rank, errno};
  const ssize_t written = ::write(context.report_fd, &report, sizeof report);
  ::_exit(written == sizeof report ? 126 : 127);
}

}  // namespace

pid_t spawn(const SpawnContext& context, int rank, const std::vector<std::string>& environment,
            const Streams& streams, const std::vector<int>& cpus) {
  const std::vector<char*> argv = pointers(context.argv);
  const std::vector<char*> variables = pointers(environment);
  const CpuMask mask = mask_of(cpus);
  const pid_t launcher = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become(context, rank, argv.data(), variables.data(), streams, mask, launcher);
  // In both processes, so that the group exists whoever comes first.
  if (pid > 0) ::setpgid(pid, pid);
  return pid;
}

}  // namespace weft::inline v0::launcher
