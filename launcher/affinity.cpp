#include <weft/launcher/affinity.hpp>

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>
#include <tuple>

#include <weft/core/base/check.hpp>
#include <weft/launcher/ending.hpp>

namespace weft::inline v0::launcher {

namespace {

int number_in(const std::string& file, int otherwise) {
  std::ifstream stream(file);
  int value = 0;
  return stream >> value ? value : otherwise;
}

std::vector<int> allowed_numbers() {
  // The kernel refuses a mask that is smaller than its own, however few CPUs there are.
  for (int size = 1024; size <= 1 << 20; size *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(
        CPU_ALLOC(size), [](cpu_set_t* memory) { CPU_FREE(memory); });
    const size_t bytes = CPU_ALLOC_SIZE(size);
    if (::sched_getaffinity(0, bytes, set.get()) != 0) {
      if (errno == EINVAL) continue;
      break;
    }
    std::vector<int> found;
    for (int cpu = 0; cpu < size; ++cpu)
      if (CPU_ISSET_S(cpu, bytes, set.get())) found.push_back(cpu);
    return found;
  }
  return {0};
}

int node_of(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    int node = 0;
    if (name.starts_with("node") &&
        std::from_chars(name.data() + 4, name.data() + name.size(), node).ptr ==
            name.data() + name.size())
      return node;
  }
  return 0;
}

/// Those of `items` things that part `part` of `parts` gets, in order: the range [first, last).
/// More parts than things share them.
std::pair<size_t, size_t> share(size_t items, int part, int parts) {
  const auto of = [&](int p) {
    return items * static_cast<size_t>(p) / static_cast<size_t>(parts);
  };
  const size_t first = of(part);
  return {first, std::max(first + 1, of(part + 1))};
}

template <class Key>
std::vector<std::vector<Cpu>> grouped(const std::vector<Cpu>& cpus, Key key) {
  std::vector<Cpu> sorted = cpus;
  std::sort(sorted.begin(), sorted.end(), [&](const Cpu& a, const Cpu& b) {
    return std::tuple(key(a), a.number) < std::tuple(key(b), b.number);
  });
  std::vector<std::vector<Cpu>> groups;
  for (const Cpu& cpu : sorted) {
    if (groups.empty() || key(groups.back().front()) != key(cpu)) groups.emplace_back();
    groups.back().push_back(cpu);
  }
  return groups;
}

auto core_key(const Cpu& cpu) { return std::tuple(cpu.node, cpu.package, cpu.core); }

}  // namespace

std::vector<Cpu> topology(const std::string& root, std::vector<int> allowed) {
  if (allowed.empty()) allowed = allowed_numbers();
  std::vector<Cpu> cpus;
  for (const int number : allowed) {
    const std::string folder = fmt::format("{}/sys/devices/system/cpu/cpu{}", root, number);
    cpus.push_back({.number = number,
                    .core = number_in(folder + "/topology/core_id", number),
                    .package = number_in(folder + "/topology/physical_package_id", 0),
                    .node = node_of(folder)});
  }
  return cpus;
}

Placement place(Bind bind, const std::vector<Cpu>& cpus, int local_rank, int ranks,
                int unbound_threads) {
  Placement result;
  if (bind == Bind::none || cpus.empty()) {
    result.threads = unbound_threads;
    result.text = fmt::format("on any CPU, {}", counted(result.threads, "thread"));
    return result;
  }
  const auto units = bind == Bind::core ? grouped(cpus, core_key)
                                        : grouped(cpus, [](const Cpu& cpu) { return cpu.node; });
  size_t cores = 0;
  std::vector<int> nodes;
  auto [first, last] = share(units.size(), local_rank, ranks);
  if (bind == Bind::numa) last = first + 1;
  for (size_t i = first; i < last; ++i) {
    cores += grouped(units[i], core_key).size();
    for (const Cpu& cpu : units[i]) {
      result.cpus.push_back(cpu.number);
      nodes.push_back(cpu.node);
    }
  }
  // Ranks that share what they are bound to share its cores.
  size_t sharers = 0;
  for (int other = 0; other < ranks; ++other)
    if (share(units.size(), other, ranks).first == first) ++sharers;
  result.threads = static_cast<int>(std::max<size_t>(1, cores / sharers));
  result.shared = bind == Bind::core && sharers > 1;
  result.text = fmt::format("CPUs {} (node {}), {}", cpu_list(result.cpus), cpu_list(nodes),
                            counted(result.threads, "thread"));
  return result;
}

std::string cpu_list(std::vector<int> cpus) {
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  std::string text;
  for (size_t i = 0, next = 0; i < cpus.size(); i = next) {
    for (next = i + 1; next < cpus.size() && cpus[next] == cpus[next - 1] + 1;) ++next;
    text += fmt::format("{}{}", text.empty() ? "" : ",", cpus[i]);
    if (next - i > 1) text += fmt::format("-{}", cpus[next - 1]);
  }
  return text;
}

}  // namespace weft::inline v0::launcher
