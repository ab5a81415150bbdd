// Every collective, on every dtype and with every operation, against an oracle: what the others
// send is a function of their rank, so each rank works out what it must receive, in f64 and in
// whole numbers.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <weft/core/ops.hpp>
#include <weft/launcher/programs/test/check.hpp>

namespace weft::inline v0::self_test {

namespace {

using dist::ReduceOp;

constexpr std::array kDTypes = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64,
                                DType::i32, DType::i16, DType::i8,  DType::u8,   DType::boolean};

struct Op {
  ReduceOp op;
  const char* name;
};
constexpr std::array kOps = {Op{ReduceOp::sum, "sum"},   Op{ReduceOp::avg, "avg"},
                             Op{ReduceOp::min, "min"},   Op{ReduceOp::max, "max"},
                             Op{ReduceOp::prod, "prod"}, Op{ReduceOp::band, "band"},
                             Op{ReduceOp::bor, "bor"},   Op{ReduceOp::bxor, "bxor"}};

/// avg is for floating dtypes, bit by bit is for the others.
bool has(DType dtype, ReduceOp op) {
  const bool bits = op == ReduceOp::band || op == ReduceOp::bor || op == ReduceOp::bxor;
  return is_floating(dtype) ? !bits : op != ReduceOp::avg;
}

/// Element `i` of what `rank` sends: exact in every dtype that has it, other for other ranks.
double element(DType dtype, ReduceOp op, int rank, int64_t i) {
  const int64_t mixed = (i * 2654435761 + rank * 40503 + (i >> 7) * 977) & 0xffff;
  if (dtype == DType::boolean) return mixed % 3 == 0 ? 1 : 0;
  if (is_integral(dtype)) {
    const int64_t value = mixed % 101;
    return static_cast<double>(dtype == DType::u8 ? value : value - 50);
  }
  // bf16 has eight bits: 0.75 … 1.25 in steps of 1/128 for products, else -1.5 … 1.5 by 1/64.
  if (op == ReduceOp::prod) return 0.75 + static_cast<double>(mixed % 65) / 128;
  return static_cast<double>(mixed % 193 - 96) / 64;
}

Tensor input_of(DType dtype, ReduceOp op, int rank, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = element(dtype, op, rank, i);
  return from_host(values.data(), {count}, DType::f64).to(dtype);
}

/// A whole number as the dtype keeps it: sums and products wrap.
int64_t wrapped(DType dtype, uint64_t value) {
  switch (dtype) {
    case DType::u8: return static_cast<uint8_t>(value);
    case DType::i8: return static_cast<int8_t>(value);
    case DType::i16: return static_cast<int16_t>(value);
    case DType::i32: return static_cast<int32_t>(value);
    default: return static_cast<int64_t>(value);
  }
}

struct Expected {
  double value;
  double tolerance;
};

/// sum and max are "or", prod and min are "and".
double reduced_bool(ReduceOp op, int size, int64_t i) {
  int trues = 0;
  for (int r = 0; r < size; ++r) trues += element(DType::boolean, op, r, i) != 0;
  if (op == ReduceOp::bxor) return trues % 2;
  if (op == ReduceOp::sum || op == ReduceOp::max || op == ReduceOp::bor) return trues > 0 ? 1 : 0;
  return trues == size ? 1 : 0;
}

Expected reduced_whole(DType dtype, ReduceOp op, int size, int64_t i) {
  if (dtype == DType::boolean) return {reduced_bool(op, size, i), 0};
  auto result = static_cast<int64_t>(element(dtype, op, 0, i));
  for (int r = 1; r < size; ++r) {
    const auto value = static_cast<int64_t>(element(dtype, op, r, i));
    const auto a = static_cast<uint64_t>(result), b = static_cast<uint64_t>(value);
    switch (op) {
      case ReduceOp::min: result = std::min(result, value); break;
      case ReduceOp::max: result = std::max(result, value); break;
      case ReduceOp::prod: result = wrapped(dtype, a * b); break;
      case ReduceOp::band: result &= value; break;
      case ReduceOp::bor: result |= value; break;
      case ReduceOp::bxor: result ^= value; break;
      default: result = wrapped(dtype, a + b);
    }
  }
  return {static_cast<double>(result), 0};
}

Expected reduced_floating(DType dtype, ReduceOp op, const Context& context, int64_t i) {
  const int size = context.size();
  double result = element(dtype, op, 0, i), magnitude = std::abs(result);
  for (int r = 1; r < size; ++r) {
    const double value = element(dtype, op, r, i);
    magnitude += std::abs(value);
    switch (op) {
      case ReduceOp::min: result = std::min(result, value); break;
      case ReduceOp::max: result = std::max(result, value); break;
      case ReduceOp::prod: result *= value; break;
      default: result += value;
    }
  }
  if (op == ReduceOp::min || op == ReduceOp::max) return {result, 0};
  if (op == ReduceOp::avg) {
    result /= size;
    magnitude /= size;
  }
  if (op == ReduceOp::prod) magnitude = std::abs(result);
  // Added up in f32 (f64 in f64); 16-bit floats are rounded once, or once more on each host.
  const double step = dtype == DType::f64 ? 0x1p-53 : 0x1p-24;
  double tolerance = 2 * size * step * magnitude;
  const double roundings = context.one_host ? 1 : size;
  if (dtype == DType::f16) tolerance += roundings * 0x1.01p-11 * std::max(magnitude, 0x1p-14);
  if (dtype == DType::bf16) tolerance += roundings * 0x1.01p-8 * magnitude;
  return {result, tolerance};
}

Expected reduced(DType dtype, ReduceOp op, const Context& context, int64_t i) {
  return is_floating(dtype) ? reduced_floating(dtype, op, context, i)
                            : reduced_whole(dtype, op, context.size(), i);
}

std::vector<double> doubles(const Tensor& tensor) {
  return tensor.to(DType::f64).to_vector<double>();
}

std::vector<int64_t> counts(const Context& context) {
  if (context.quick) return {1, 1003};
  return {0, 1, 1003, 20000};
}

/// Runs `body` for every dtype, operation that it has, and count; returns how many those were.
template <class Body>
std::string over_reductions(const Context& context, Body&& body) {
  int cases = 0;
  for (const DType dtype : kDTypes)
    for (const auto& [op, name] : kOps) {
      if (!has(dtype, op)) continue;
      for (const int64_t count : counts(context)) {
        body(dtype, op, name, count);
        ++cases;
      }
    }
  return fmt::format("{} cases", cases);
}

template <class Body>
std::string over_dtypes(const Context& context, Body&& body) {
  int cases = 0;
  for (const DType dtype : kDTypes)
    for (const int64_t count : counts(context)) {
      body(dtype, count);
      ++cases;
    }
  return fmt::format("{} cases", cases);
}

/// A number that is the same on all ranks where their bytes are.
int64_t hash_of(const std::vector<double>& values) {
  uint64_t hash = 1469598103934665603u;
  for (const double value : values) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 1099511628211u;
  }
  return static_cast<int64_t>(hash);
}

std::string all_reduce(const Context& context) {
  std::vector<double> everything;
  const std::string cases =
      over_reductions(context, [&](DType dtype, ReduceOp op, const char* name, int64_t count) {
        const Tensor values = input_of(dtype, op, context.rank(), count);
        context.group.all_reduce(values, op);
        const std::vector<double> got = doubles(values);
        for (int64_t i = 0; i < count; ++i) {
          const Expected expected = reduced(dtype, op, context, i);
          const double value = got[static_cast<size_t>(i)];
          require(std::abs(value - expected.value) <= expected.tolerance,
                  "{} of {} [{}]: element {} is {:.9g} instead of {:.9g}", name, name_of(dtype),
                  count, i, value, expected.value);
        }
        everything.insert(everything.end(), got.begin(), got.end());
      });
  const auto hashes = context.group.all_gather(tensor({hash_of(everything)})).to_vector<int64_t>();
  for (size_t r = 1; r < hashes.size(); ++r)
    require(hashes[r] == hashes[0], "rank {}'s results differ from rank 0's in their bits", r);
  return cases + ", equal to the bit on all ranks";
}

std::string reduce_scatter(const Context& context) {
  return over_reductions(context, [&](DType dtype, ReduceOp op, const char* name, int64_t count) {
    const Tensor all = input_of(dtype, op, context.rank(), count * context.size());
    const std::vector<double> got = doubles(context.group.reduce_scatter(all, op));
    require(static_cast<int64_t>(got.size()) == count, "{} elements of {}", got.size(), count);
    for (int64_t i = 0; i < count; ++i) {
      const Expected expected = reduced(dtype, op, context, context.rank() * count + i);
      const double value = got[static_cast<size_t>(i)];
      require(std::abs(value - expected.value) <= expected.tolerance,
              "{} of {} [{}]: element {} is {:.9g} instead of {:.9g}", name, name_of(dtype), count,
              i, value, expected.value);
    }
  });
}

/// What is moved must arrive as it is: `expected(i)` is element i.
template <class F>
void require_moved(const Tensor& got, DType dtype, int64_t count, F&& expected) {
  const std::vector<double> values = doubles(got);
  require(static_cast<int64_t>(values.size()) == count, "{}: {} elements instead of {}",
          name_of(dtype), values.size(), count);
  for (int64_t i = 0; i < count; ++i)
    require(values[static_cast<size_t>(i)] == expected(i),
            "{} [{}]: element {} is {} instead of {}", name_of(dtype), count, i,
            values[static_cast<size_t>(i)], expected(i));
}

Tensor sent_by(DType dtype, int rank, int64_t count) {
  return input_of(dtype, ReduceOp::sum, rank, count);
}
double sent(DType dtype, int rank, int64_t i) { return element(dtype, ReduceOp::sum, rank, i); }

std::string all_gather(const Context& context) {
  return over_dtypes(context, [&](DType dtype, int64_t count) {
    const Tensor rows = context.group.all_gather(sent_by(dtype, context.rank(), count));
    require_moved(rows, dtype, count * context.size(),
                  [&](int64_t i) { return sent(dtype, static_cast<int>(i / count), i % count); });
  });
}

std::string broadcast(const Context& context) {
  int root = 0;
  return over_dtypes(context, [&](DType dtype, int64_t count) {
    const Tensor values = sent_by(dtype, context.rank(), count);
    context.group.broadcast(values, root);
    require_moved(values, dtype, count, [&](int64_t i) { return sent(dtype, root, i); });
    root = (root + 1) % context.size();
  });
}

std::string gather(const Context& context) {
  int root = 0;
  return over_dtypes(context, [&](DType dtype, int64_t count) {
    const Tensor rows = context.group.gather(sent_by(dtype, context.rank(), count), root);
    require(rows.defined() == (context.rank() == root), "{}: rows on the wrong rank",
            name_of(dtype));
    if (rows.defined())
      require_moved(rows, dtype, count * context.size(),
                    [&](int64_t i) { return sent(dtype, static_cast<int>(i / count), i % count); });
    root = (root + 1) % context.size();
  });
}

std::string scatter(const Context& context) {
  int root = 0;
  return over_dtypes(context, [&](DType dtype, int64_t count) {
    const Tensor own = zeros({count}, {.dtype = dtype});
    Tensor rows;
    if (context.rank() == root)
      rows = sent_by(dtype, root, count * context.size()).reshape({context.size(), count});
    context.group.scatter(own, rows, root);
    require_moved(own, dtype, count,
                  [&](int64_t i) { return sent(dtype, root, context.rank() * count + i); });
    root = (root + 1) % context.size();
  });
}

std::string all_to_all(const Context& context) {
  return over_dtypes(context, [&](DType dtype, int64_t count) {
    const Tensor got =
        context.group.all_to_all(sent_by(dtype, context.rank(), count * context.size()));
    require_moved(got, dtype, count * context.size(), [&](int64_t i) {
      return sent(dtype, static_cast<int>(i / count), context.rank() * count + i % count);
    });
  });
}

/// Around the ring, both ways.
std::string send_recv(const Context& context) {
  if (context.size() == 1) throw Skip("one rank has nobody to send to");
  const int n = context.size(), rank = context.rank();
  return over_dtypes(context, [&](DType dtype, int64_t count) {
    for (const int step : {1, n - 1}) {
      const int to = (rank + step) % n, from = (rank + n - step) % n;
      const Tensor got = zeros({count}, {.dtype = dtype});
      // A send returns when it has arrived: rank 0 sends first, the others once they have received.
      if (rank == 0) context.group.send(sent_by(dtype, rank, count), to);
      context.group.recv(got, from);
      if (rank != 0) context.group.send(sent_by(dtype, rank, count), to);
      require_moved(got, dtype, count, [&](int64_t i) { return sent(dtype, from, i); });
    }
  });
}

std::string barrier(const Context& context) {
  using Clock = std::chrono::steady_clock;
  const int rounds = 200;
  for (int i = 0; i < 20; ++i) context.group.barrier();
  const auto start = Clock::now();
  for (int i = 0; i < rounds; ++i) context.group.barrier();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / rounds;
  return fmt::format("{:.1f} us", seconds * 1e6);
}

/// A string whose size and bytes its rank decides; that of rank 1 is empty.
std::string object_of(int rank) {
  std::string text;
  for (int i = 0; i < 1000 * rank * rank - 1000 * rank; ++i)
    text += static_cast<char>((i * 31 + rank * 7) & 0xff);
  return rank == 0 ? std::string("\0root\n", 6) : text;
}

std::string objects(const Context& context) {
  const std::string own = object_of(context.rank());
  const auto all = context.group.all_gather_bytes(own);
  require(static_cast<int>(all.size()) == context.size(), "{} strings", all.size());
  for (int r = 0; r < context.size(); ++r)
    require(all[static_cast<size_t>(r)] == object_of(r), "all_gather_bytes: that of rank {}", r);
  const int root = context.size() - 1;
  const auto gathered = context.group.gather_bytes(own, root);
  require(gathered == (context.rank() == root ? all : std::vector<std::string>()),
          "gather_bytes: {} strings", gathered.size());
  require(context.group.broadcast_bytes(own, root) == object_of(root), "broadcast_bytes");
  return {};
}

std::string shared_memory(const Context& context) {
  const int64_t count = 70'001;
  const Storage storage = context.group.allocate_shared(static_cast<size_t>(count) * sizeof(float));
  Tensor values = from_blob(storage->data, {count}, DType::f32);
  for (int round = 0; round < 3; ++round) {
    values.copy_(input_of(DType::f32, ReduceOp::sum, context.rank(), count));
    context.group.all_reduce(values);
    const std::vector<double> got = doubles(values);
    for (int64_t i = 0; i < count; i += 97) {
      const Expected expected = reduced(DType::f32, ReduceOp::sum, context, i);
      require(std::abs(got[static_cast<size_t>(i)] - expected.value) <= expected.tolerance,
              "round {}, element {}: {} instead of {}", round, i, got[static_cast<size_t>(i)],
              expected.value);
    }
    context.group.barrier();
  }
  return {};
}

std::string split_groups(const Context& context) {
  const int n = context.size(), rank = context.rank();
  const dist::Group half = context.group.split(rank % 2, n - rank);  // in reverse order
  std::vector<int64_t> expected;
  for (int r = n - 1; r >= 0; --r)
    if (r % 2 == rank % 2) expected.push_back(r);
  const auto members = half.all_gather(full({1}, rank)).to_vector<int64_t>();
  require(members == expected, "the members are {}", fmt::join(members, ", "));
  context.group.barrier();
  return fmt::format("{} and {} ranks", (n + 1) / 2, n / 2);
}

}  // namespace

void add_collective_checks(std::vector<Check>& checks) {
  checks.push_back({"barrier", barrier});
  checks.push_back({"all_reduce", all_reduce});
  checks.push_back({"reduce_scatter", reduce_scatter});
  checks.push_back({"all_gather", all_gather});
  checks.push_back({"broadcast", broadcast});
  checks.push_back({"gather", gather});
  checks.push_back({"scatter", scatter});
  checks.push_back({"all_to_all", all_to_all});
  checks.push_back({"send_recv", send_recv});
  checks.push_back({"objects", objects});
  checks.push_back({"shared_memory", shared_memory});
  checks.push_back({"split_groups", split_groups});
}

}  // namespace weft::inline v0::self_test
