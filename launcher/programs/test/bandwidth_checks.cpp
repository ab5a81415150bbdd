// How fast the ranks reach each other, and each collective's bandwidth.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <weft/core/ops.hpp>
#include <weft/launcher/programs/test/check.hpp>

namespace weft::inline v0::self_test {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string as_time(double seconds) {
  return seconds < 1e-3 ? fmt::format("{:.1f} us", seconds * 1e6)
                        : fmt::format("{:.1f} ms", seconds * 1e3);
}

/// Messages to and fro between each two ranks, while the others wait.
std::string pairs(const Context& context) {
  const int n = context.size();
  if (n == 1) throw Skip("one rank has no pair");
  const int rounds = std::clamp(4000 / (n * n), 5, 200);
  const Tensor message = zeros({8}, {.dtype = DType::u8});
  double worst = 0;
  std::string slowest;
  for (int a = 0; a < n; ++a)
    for (int b = a + 1; b < n; ++b) {
      context.group.barrier();
      Tensor time = zeros({1}, {.dtype = DType::f64});
      if (context.rank() == a || context.rank() == b) {
        const int peer = context.rank() == a ? b : a;
        const auto ping = [&] { context.group.send(message, peer); };
        const auto pong = [&] { context.group.recv(message, peer); };
        Clock::time_point start;
        for (int i = -2; i < rounds; ++i) {
          if (i == 0) start = Clock::now();
          if (context.rank() == a) ping();
          pong();
          if (context.rank() == b) ping();
          if (i == rounds - 1) time.fill_(seconds_since(start) / rounds);
        }
      }
      context.group.broadcast(time, a);
      if (time.item<double>() < worst) continue;
      worst = time.item<double>();
      slowest = fmt::format("{} and {}", a, b);
    }
  return fmt::format("slowest pair, there and back: {} ({})", as_time(worst), slowest);
}

struct Measured {
  const char* name;
  double bus;  ///< bytes on the bus for each byte of the message, as nccl-tests counts them
  std::function<void(const Tensor&)> run;
};

/// Seconds of one call: as many as fit into a short time, the same number on all ranks.
double time_of(const Context& context, const Measured& measured, const Tensor& data) {
  measured.run(data);
  context.group.barrier();
  auto start = Clock::now();
  measured.run(data);
  const Tensor rounds = full({1}, std::clamp(0.03 / std::max(seconds_since(start), 1e-7), 2.0, 1e4),
                             {.dtype = DType::f64});
  context.group.broadcast(rounds);
  const int count = static_cast<int>(rounds.item<double>());
  context.group.barrier();
  start = Clock::now();
  for (int i = 0; i < count; ++i) measured.run(data);
  context.group.barrier();
  return seconds_since(start) / count;
}

std::string bandwidth(const Context& context, const Measured& measured) {
  if (context.size() == 1) throw Skip("one rank sends nothing");
  std::string figures;
  const std::vector<std::pair<const char*, int64_t>> sizes = {
      {"4 KiB", 4 << 10}, {"1 MiB", 1 << 20}, {"16 MiB", 16 << 20}};
  for (const auto& [name, bytes] : sizes) {
    if (context.quick && bytes > (1 << 20)) continue;
    const int64_t rows = context.size();
    const Tensor data = zeros({rows, std::max<int64_t>(bytes / 4 / rows, 1)});
    const double seconds = time_of(context, measured, data);
    const double rate = static_cast<double>(data.numel() * 4) / seconds / 1e9;
    if (!figures.empty()) figures += ", ";
    figures += bytes <= 4096
                   ? fmt::format("{} {}", name, as_time(seconds))
                   : fmt::format("{} {:.2f} ({:.2f}) GB/s", name, rate, rate * measured.bus);
  }
  return figures;
}

std::vector<Measured> measurements(const Context& context) {
  const dist::Group group = context.group;
  const double n = context.size(), part = (n - 1) / n;
  const auto own_row = [=](const Tensor& data) { return data.select(0, group.rank()); };
  return {
      {"all_reduce", 2 * part, [=](const Tensor& data) { group.all_reduce(data); }},
      {"reduce_scatter", part, [=](const Tensor& data) { group.reduce_scatter(data); }},
      {"all_gather", part, [=](const Tensor& data) { group.all_gather(own_row(data)); }},
      {"broadcast", 1, [=](const Tensor& data) { group.broadcast(data); }},
      {"gather", part, [=](const Tensor& data) { group.gather(own_row(data)); }},
      {"scatter", part, [=](const Tensor& data) { group.scatter(empty({data.size(1)}), data); }},
      {"all_to_all", part, [=](const Tensor& data) { group.all_to_all(data); }},
      // From the first rank to the last, which is on another host where there are several.
      {"send_recv", 1,
       [=](const Tensor& data) {
         const int last = group.size() - 1;
         if (group.rank() == 0) group.send(data, last);
         if (group.rank() == last) group.recv(data, 0);
       }},
  };
}

}  // namespace

void add_bandwidth_checks(std::vector<Check>& checks) {
  checks.push_back({"pairs", pairs});
  const std::vector<Measured> all = measurements({});
  for (size_t i = 0; i < all.size(); ++i)
    checks.push_back({std::string("bandwidth_") + all[i].name, [i](const Context& context) {
                        return bandwidth(context, measurements(context)[i]);
                      }});
}

}  // namespace weft::inline v0::self_test
