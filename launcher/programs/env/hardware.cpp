// The machine: CPUs, memory, GPUs, network.
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include <weft/core/base/check.hpp>
#include <weft/core/base/cpus.hpp>
#include <weft/dist/store/socket.hpp>
#include <weft/launcher/programs/env/facts.hpp>

namespace weft::inline v0::env_report {

namespace {

using dist::detail::Fd;

/// What matters to speed: the flags of /proc/cpuinfo that kernels ask for.
constexpr const char* kFeatures[] = {
    "sse4_2",      "avx",         "f16c",     "fma",      "avx2",     "bmi2",
    "avx_vnni",    "avx512f",     "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd",
    "asimdhp",     "bf16",        "sve",      "sve2",     "i8mm",     "hypervisor"};

double kib_of(const std::string& text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value * 1024;
}

std::string first_of(const std::string& path, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (std::string value = field_of(path, name); !value.empty()) return value;
  return "unknown";
}

/// Limits of the control group of this process and those above it, the smallest that says a number.
std::string group_memory_limit(const std::string& root) {
  std::ifstream groups(root + "proc/self/cgroup");
  double least = -1;
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",memory,") == std::string::npos) continue;
    const std::string base = root + (unified ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    const char* file = unified ? "/memory.max" : "/memory.limit_in_bytes";
    for (std::string path = line.substr(second + 1);; path = path.substr(0, path.rfind('/'))) {
      const std::string text = first_line(base + path + file);
      double value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      // Version 1 says "none" by a number near 2^63.
      if (error == std::errc() && value < 0x1p60)
        least = least < 0 ? value : std::min(least, value);
      if (path.find('/') == std::string::npos || path == "/") break;
    }
  }
  return least < 0 ? "none" : bytes_text(least);
}

/// Whether memory of `page` bytes per page can be shared between processes here.
std::string try_huge_pages(size_t page) {
  const unsigned shift = static_cast<unsigned>(__builtin_ctzll(page));
  const Fd fd(::memfd_create("weft-env", MFD_CLOEXEC | MFD_HUGETLB | (shift << 26)));
  if (!fd) return fmt::format("no ({})", std::strerror(errno));
  if (::ftruncate(fd.get(), static_cast<off_t>(page)) != 0)
    return fmt::format("no ({})", std::strerror(errno));
  void* memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return fmt::format("no ({})", std::strerror(errno));
  ::munmap(memory, page);
  return "yes";
}

/// The word in brackets of "always [madvise] never".
std::string chosen_word(const std::string& text) {
  const size_t open = text.find('['), close = text.find(']');
  return close == std::string::npos || open == std::string::npos
             ? (text.empty() ? "unknown" : text)
             : text.substr(open + 1, close - open - 1);
}

std::string shared_folder(const std::string& path) {
  struct statvfs facts {};
  if (::statvfs(path.c_str(), &facts) != 0) return std::strerror(errno);
  const auto block = static_cast<double>(facts.f_frsize);
  return fmt::format("{}, {} free", bytes_text(block * static_cast<double>(facts.f_blocks)),
                     bytes_text(block * static_cast<double>(facts.f_bavail)));
}

}  // namespace

Section cpu_section(const std::string& root) {
  Section section{"cpu"};
  const std::string info = root + "proc/cpuinfo";
  section.add("model", first_of(info, {"model name", "Model", "Processor", "CPU part"}));
  const long configured = ::sysconf(_SC_NPROCESSORS_ONLN);
  section.add("CPUs", fmt::format("{} on this host, {} for this process, on {} cores", configured,
                                  weft::detail::allowed_cpus(), weft::detail::allowed_cores()));
  const auto quota = weft::detail::cgroup_cpus(root);
  section.add("control group", quota ? fmt::format("at most {:.2f} CPUs", *quota) : "no limit");
  std::istringstream flags(first_of(info, {"flags", "Features"}));
  const std::set<std::string> has{std::istream_iterator<std::string>(flags), {}};
  std::vector<std::string> found;
  for (const char* feature : kFeatures)
    if (has.count(feature) == 1) found.emplace_back(feature);
  section.add("features", fmt::format("{}", fmt::join(found, " ")));
  const std::string nodes = root + "sys/devices/system/node";
  std::vector<std::string> lines;
  for (const std::string& node : entries(nodes, "node")) {
    const std::string folder = nodes + "/" + node;
    const std::string cpus = first_line(folder + "/cpulist");
    if (cpus.empty()) continue;
    std::ifstream memory(folder + "/meminfo");
    std::string total = "unknown memory";
    for (std::string line; std::getline(memory, line);)
      if (const size_t at = line.find("MemTotal:"); at != std::string::npos) {
        const size_t digits = line.find_first_of("0123456789", at);
        total = bytes_text(kib_of(line.substr(std::min(digits, line.size()))));
      }
    lines.push_back(fmt::format("{}: CPUs {}, {}", node, cpus, total));
  }
  section.add_list("NUMA nodes", lines.empty() ? std::vector<std::string>{"unknown"} : lines);
  return section;
}

Section memory_section(const std::string& root) {
  Section section{"memory"};
  const std::string info = root + "proc/meminfo";
  const auto amount = [&](const char* name) {
    const std::string text = field_of(info, name);
    return text.empty() ? std::string("unknown") : bytes_text(kib_of(text));
  };
  section.add("memory",
              fmt::format("{}, {} available", amount("MemTotal"), amount("MemAvailable")));
  section.add("swap", fmt::format("{}, {} free", amount("SwapTotal"), amount("SwapFree")));
  section.add("control group", group_memory_limit(root));
  section.add("/dev/shm", shared_folder(root + "dev/shm"));
  section.add("page size", bytes_text(static_cast<double>(::sysconf(_SC_PAGESIZE))));
  const std::string huge = root + "sys/kernel/mm/transparent_hugepage/";
  section.add("transparent huge pages", chosen_word(first_line(huge + "enabled")));
  section.add("the same, shared memory", chosen_word(first_line(huge + "shmem_enabled")));
  const std::string pools = root + "sys/kernel/mm/hugepages";
  std::vector<std::string> lines;
  for (const std::string& pool : entries(pools, "hugepages-")) {
    size_t kib = 0;
    std::from_chars(pool.data() + 10, pool.data() + pool.size(), kib);
    if (kib == 0 || (kib & (kib - 1)) != 0) continue;
    lines.push_back(fmt::format(
        "{}: {} reserved, {} free, shared: {}", bytes_text(static_cast<double>(kib) * 1024),
        first_line(pools + "/" + pool + "/nr_hugepages"),
        first_line(pools + "/" + pool + "/free_hugepages"), try_huge_pages(kib * 1024)));
  }
  section.add_list("huge pages", lines.empty() ? std::vector<std::string>{"none"} : lines);
  return section;
}

Section gpu_section(const std::string& root) {
  Section section{"gpu"};
  const std::string driver = first_line(root + "proc/driver/nvidia/version");
  std::vector<std::string> cards;
  for (const std::string& card : entries(root + "proc/driver/nvidia/gpus")) {
    const std::string file = root + "proc/driver/nvidia/gpus/" + card + "/information";
    cards.push_back(fmt::format("{} ({})", first_of(file, {"Model"}), card));
  }
  section.add("NVIDIA driver", driver.empty() ? "none: /proc/driver/nvidia is not there" : driver);
  section.add_list("cards", cards.empty() ? std::vector<std::string>{"none"} : cards);
  section.add("used by weft", "none: this version has no plugin for GPUs (libweft_cuda.so)");
  return section;
}

Section network_section(const std::string& root) {
  Section section{"network"};
  std::map<std::string, std::vector<std::string>> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) == 0) {
    for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
      if (entry->ifa_addr == nullptr) continue;
      const int family = entry->ifa_addr->sa_family;
      if (family != AF_INET && family != AF_INET6) continue;
      char host[NI_MAXHOST] = {};
      const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
      if (::getnameinfo(entry->ifa_addr, size, host, sizeof host, nullptr, 0, NI_NUMERICHOST) == 0)
        addresses[entry->ifa_name].emplace_back(host);
    }
    ::freeifaddrs(list);
  }
  const std::string folder = root + "sys/class/net";
  for (const std::string& name : entries(folder)) {
    const std::string at = folder + "/" + name + "/";
    std::string line = first_line(at + "operstate");
    if (line.empty()) continue;  // no interface: bonding_masters
    // Interfaces without a cable speed answer -1 or an error.
    if (const std::string speed = first_line(at + "speed"); !speed.empty() && speed[0] != '-')
      line += fmt::format(", {} Mbit/s", speed);
    line += fmt::format(", MTU {}", first_line(at + "mtu"));
    const auto found = addresses.find(name);
    line += found == addresses.end() ? ", no address"
                                     : fmt::format(", {}", fmt::join(found->second, ", "));
    section.add(name, line);
  }
  const std::vector<std::string> devices = entries(root + "sys/class/infiniband");
  section.add("RDMA", devices.empty() ? "none" : fmt::format("{}", fmt::join(devices, ", ")));
  return section;
}

}  // namespace weft::inline v0::env_report
