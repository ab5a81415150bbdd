#include <weft/tests/dist/oracle.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>
#include <span>

#include <weft/core/base/error.hpp>
#include <weft/core/ops.hpp>

namespace weft::test {

using dist::Group;
using dist::ReduceOp;

namespace {

constexpr DType kAll[] = {DType::boolean, DType::u8,  DType::i8,   DType::i16, DType::i32,
                          DType::i64,     DType::f16, DType::bf16, DType::f32, DType::f64};
constexpr ReduceOp kOps[] = {ReduceOp::sum,  ReduceOp::avg,  ReduceOp::min, ReduceOp::max,
                             ReduceOp::prod, ReduceOp::band, ReduceOp::bor, ReduceOp::bxor};
const char* const kOpNames[] = {"sum", "avg", "min", "max", "prod", "band", "bor", "bxor"};

double value_of(int rank, int64_t i) { return static_cast<double>((rank * 7 + i * 3) % 4); }

bool fits(ReduceOp op, DType dtype) {
  if (op == ReduceOp::avg) return is_floating(dtype);
  return op < ReduceOp::band || !is_floating(dtype);
}

}  // namespace

Tensor make(DType dtype, const Shape& shape, const std::function<double(int64_t)>& value) {
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = value(static_cast<int64_t>(i));
  return from_host(values.data(), shape, DType::f64).to(dtype);
}

Tensor values_of(int rank, DType dtype, const Shape& shape) {
  return make(dtype, shape, [rank](int64_t i) { return value_of(rank, i); });
}

double combined(DType dtype, ReduceOp op, int size, int64_t i) {
  const bool logical = dtype == DType::boolean;
  double result = 0;
  for (int r = 0; r < size; ++r) {
    const double v = logical ? (value_of(r, i) != 0 ? 1 : 0) : value_of(r, i);
    if (r == 0)
      result = v;
    else if (op == ReduceOp::min)
      result = std::min(result, v);
    else if (op == ReduceOp::max)
      result = std::max(result, v);
    else if (op == ReduceOp::prod)
      result *= v;
    else if (op == ReduceOp::band)
      result = static_cast<double>(static_cast<int>(result) & static_cast<int>(v));
    else if (op == ReduceOp::bor)
      result = static_cast<double>(static_cast<int>(result) | static_cast<int>(v));
    else if (op == ReduceOp::bxor)
      result = static_cast<double>(static_cast<int>(result) ^ static_cast<int>(v));
    else
      result += v;
  }
  if (op == ReduceOp::avg) result /= size;
  return logical && result > 1 ? 1 : result;
}

std::string first_difference(const Tensor& got, const Tensor& expected) {
  const auto a = got.to_vector<double>(), b = expected.to_vector<double>();
  if (got.shape() != expected.shape())
    return to_string(got.shape()) + " instead of " + to_string(expected.shape());
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i] != b[i])
      return "[" + std::to_string(i) + "] = " + std::to_string(a[i]) + " instead of " +
             std::to_string(b[i]);
  return "";
}

namespace {

Tensor random_values(int rank, DType dtype, int64_t count) {
  std::mt19937 random(static_cast<unsigned>(rank));
  std::uniform_real_distribution<double> uniform(0.1, 1.9);
  return make(dtype, {count},
              [&](int64_t i) { return i % 3 == 0 ? -uniform(random) : uniform(random); });
}

/// A: what the dtype is added up in.
template <class A>
A in_pairs(ReduceOp op, std::span<const std::vector<A>> values, size_t i) {
  if (values.size() == 1) return values[0][i];
  const size_t first = std::bit_ceil(values.size()) / 2;
  const A a = in_pairs(op, values.first(first), i), b = in_pairs(op, values.subspan(first), i);
  return op == ReduceOp::prod ? a * b : a + b;
}

template <class A>
Tensor expected_in_pairs(ReduceOp op, DType dtype, int size, int64_t count) {
  std::vector<std::vector<A>> values;
  for (int r = 0; r < size; ++r) values.push_back(random_values(r, dtype, count).to_vector<A>());
  std::vector<A> result(static_cast<size_t>(count));
  for (size_t i = 0; i < result.size(); ++i) {
    result[i] = in_pairs<A>(op, values, i);
    if (op == ReduceOp::avg) result[i] /= static_cast<A>(size);
  }
  return from_host(result.data(), {count}, sizeof(A) == 8 ? DType::f64 : DType::f32).to(dtype);
}

}  // namespace

void check_order(const Group& group, Problems& problems, const std::vector<int64_t>& counts) {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64})
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::avg, ReduceOp::prod})
      for (const int64_t part : counts) {
        const int64_t count = part * group.size();
        const Tensor expected = dtype == DType::f64
                                    ? expected_in_pairs<double>(op, dtype, group.size(), count)
                                    : expected_in_pairs<float>(op, dtype, group.size(), count);
        const Tensor mine = random_values(group.rank(), dtype, count);
        const Storage memory = group.allocate_shared(static_cast<size_t>(count * size_of(dtype)));
        Tensor shared = from_blob(memory->data, {count}, dtype);
        shared.copy_(mine);

        const Tensor scattered = group.reduce_scatter(mine, op);
        group.all_reduce(mine, op);
        group.all_reduce(shared, op);
        const std::string what = std::string(name_of(dtype)) + " op " +
                                 std::to_string(static_cast<int>(op)) + " of " +
                                 std::to_string(count) + " on " + std::to_string(group.size());
        for (const Tensor& got : {mine, shared})
          if (const auto text = first_difference(got, expected); !text.empty())
            problems.expect(false, what + ": " + text);
        const int64_t begin = part * group.rank();
        if (const auto text = first_difference(scattered, expected.slice(0, begin, begin + part));
            !text.empty())
          problems.expect(false, "reduce_scatter " + what + ": " + text);
      }
}

void check_all_reduce(const Group& group, Problems& problems, const std::vector<int64_t>& counts,
                      int64_t limit) {
  for (const DType dtype : kAll)
    for (const ReduceOp op : kOps)
      for (const int64_t count : counts) {
        if (!fits(op, dtype)) continue;
        if (count > limit && op != ReduceOp::sum) continue;
        const Tensor tensor = values_of(group.rank(), dtype, {count});
        const uint32_t version = tensor.version();
        group.all_reduce(tensor, op);
        const Tensor expected =
            make(dtype, {count}, [&](int64_t i) { return combined(dtype, op, group.size(), i); });
        const std::string difference = first_difference(tensor, expected);
        const std::string what = std::string(name_of(dtype)) + " " +
                                 kOpNames[static_cast<int>(op)] + " of " + std::to_string(count) +
                                 ": ";
        problems.expect(difference.empty(), what + difference);
        problems.expect(tensor.version() != version, what + "the version did not change");
      }
}

void check_moves(const Group& group, Problems& problems, const std::vector<int64_t>& counts,
                 const std::vector<DType>& dtypes) {
  const int size = group.size();
  const int rank = group.rank();
  for (const DType dtype : dtypes)
    for (const int64_t count : counts) {
      const Shape shape{count};
      const std::string what = std::string(name_of(dtype)) + " of " + std::to_string(count);
      const auto row = [&](const Tensor& rows, int r) { return rows.select(0, r); };
      const Tensor mine = values_of(rank, dtype, shape);

      const Tensor all = group.all_gather(mine);
      problems.expect(all.shape() == Shape{size, count}, what + ": shape of all_gather");
      for (int r = 0; r < size; ++r)
        problems.expect(first_difference(row(all, r), values_of(r, dtype, shape)).empty(),
                        what + ": all_gather");
      for (int root = 0; root < size; ++root) {
        const Tensor rows = group.gather(mine, root);
        problems.expect(rows.defined() == (rank == root), what + ": gather on the root alone");
        for (int r = 0; r < size && rank == root; ++r)
          problems.expect(first_difference(row(rows, r), values_of(r, dtype, shape)).empty(),
                          what + ": gather");
        const Tensor copy = mine.clone();
        group.broadcast(copy, root);
        problems.expect(first_difference(copy, values_of(root, dtype, shape)).empty(),
                        what + ": broadcast");
        const Tensor part = empty(shape, {.dtype = dtype});
        group.scatter(part, rank == root ? all : Tensor(), root);
        problems.expect(first_difference(part, mine).empty(), what + ": scatter");
      }
      // Row r of rank q is values_of(r + 10 q): a transposition and its sum are easily known.
      const auto cell = [&](int q, int r) { return values_of(r + 10 * q, dtype, shape); };
      std::vector<Tensor> cells, transposed;
      for (int r = 0; r < size; ++r) {
        cells.push_back(cell(rank, r));
        transposed.push_back(cell(r, rank));
      }
      const Tensor swapped = group.all_to_all(cat(cells));
      problems.expect(first_difference(swapped, cat(transposed)).empty(), what + ": all_to_all");
      if (dtype == DType::boolean) continue;
      const Tensor sums = group.reduce_scatter(cat(cells));
      const Tensor expected = make(dtype, shape, [&](int64_t i) {
        double sum = 0;
        for (int q = 0; q < size; ++q) sum += value_of(rank + 10 * q, i);
        return sum;
      });
      problems.expect(first_difference(sums, expected).empty(), what + ": reduce_scatter");
    }
}

void check_messages(const Group& group, Problems& problems, const std::vector<int64_t>& counts) {
  for (int from = 0; from < group.size(); ++from)
    for (int to = 0; to < group.size(); ++to)
      for (const int64_t count : counts) {
        if (from == to) continue;
        if (group.rank() == from) group.send(values_of(from, DType::f32, {count}), to);
        if (group.rank() != to) continue;
        const Tensor got = full({count}, -1.0);
        group.recv(got, from);
        problems.expect(first_difference(got, values_of(from, DType::f32, {count})).empty(),
                        "message");
      }
  group.barrier();
}

void check_bytes(const Group& group, Problems& problems) {
  const auto text_of_rank = [](int rank) {
    return rank == 1 ? std::string()
                     : std::string(static_cast<size_t>(3000 * rank + 2), '\0') + "end";
  };
  const std::vector<std::string> all = group.all_gather_bytes(text_of_rank(group.rank()));
  problems.expect(all.size() == static_cast<size_t>(group.size()), "all_gather_bytes: ranks");
  for (int root = 0; root < group.size(); ++root) {
    problems.expect(all[static_cast<size_t>(root)] == text_of_rank(root), "all_gather_bytes");
    const std::vector<std::string> rows = group.gather_bytes(text_of_rank(group.rank()), root);
    problems.expect(group.rank() == root ? rows == all : rows.empty(), "gather_bytes");
    const std::string text = group.broadcast_bytes(text_of_rank(group.rank()), root);
    problems.expect(text == text_of_rank(root), "broadcast_bytes");
  }
}

void check_splits(const Group& group, Problems& problems) {
  const int rank = group.rank(), size = group.size();
  // Each rank is in the group of its neighbours below and in that of those above at once.
  const Group odd = group.split(rank % 2, -rank), low = group.split(rank < (size + 1) / 2 ? 0 : 1);
  problems.expect(odd.size() == (size + 1 - rank % 2) / 2, "size of a part");
  problems.expect(odd.rank() == odd.size() - 1 - rank / 2, "ranks by key");
  for (int round = 0; round < 3; ++round) {
    const Tensor a = full({300}, rank), b = full({300}, rank), c = full({2}, 1);
    double even_sum = 0, low_sum = 0;
    for (int r = 0; r < size; ++r) {
      if (r % 2 == rank % 2) even_sum += r;
      if ((r < (size + 1) / 2) == (rank < (size + 1) / 2)) low_sum += r;
    }
    odd.all_reduce(a);
    low.all_reduce(b);
    group.all_reduce(c);
    problems.expect(a.to_vector<double>() == std::vector<double>(300, even_sum), "sum in a part");
    problems.expect(b.to_vector<double>() == std::vector<double>(300, low_sum), "sum in another");
    problems.expect(c.to_vector<double>()[1] == size, "the parent goes on");
  }
  const Group again = odd.split(0, odd.rank());
  problems.expect(again.size() == odd.size(), "a part of a part");
  const Group alone = group.split(rank == size - 1 ? -1 : 0);
  problems.expect(alone.size() == (rank == size - 1 ? 1 : size - 1), "a negative color");
}

void check_shared_memory(const Group& group, Problems& problems, int64_t count) {
  if (group.size() > 1) {
    const std::string refusal =
        text_of<OutOfMemory>([&] { group.allocate_shared(size_t{1} << 52); });
    problems.expect(refusal.find("shared memory") != std::string::npos, refusal);
  }
  const Storage memory = group.allocate_shared(static_cast<size_t>(count) * sizeof(float));
  auto* shared = reinterpret_cast<float*>(memory->data);
  const Tensor own = empty({count});
  auto* values = own.mutable_data<float>();
  // Sums that depend on their order, were it to differ between the two.
  for (int64_t i = 0; i < count; ++i)
    shared[i] = values[i] = static_cast<float>(group.rank() + 1) / static_cast<float>(i % 97 + 3);
  group.all_reduce(own, ReduceOp::avg);
  group.all_reduce(from_blob(shared, {count}, DType::f32), ReduceOp::avg);
  problems.expect(std::equal(values, values + count, shared), "shared and private memory differ");
  const std::string mine(reinterpret_cast<const char*>(values), static_cast<size_t>(count) * 4);
  for (const std::string& its : group.all_gather_bytes(mine))
    problems.expect(its == mine, "results differ between the ranks");
}

}  // namespace weft::test
