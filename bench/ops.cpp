// Single operators: overhead, bandwidth, GEMM rates.
#include <weft/core/base/parallel.hpp>
#include <weft/weft.hpp>

#include <weft/bench/harness.hpp>
#include <weft/bench/peer.hpp>

namespace {

using namespace weft;
using bench::Row;

/// Keeps the optimizer from dropping a result.
void keep(const Tensor& t) { asm volatile("" : : "r"(t.impl()) : "memory"); }

std::function<void()> unary(Tensor (*op)(const Tensor&)) {
  const Tensor x = randn({1024, 4096});
  return [x, op] {
    const NoGrad guard;
    keep(op(x));
  };
}

std::function<void()> matmul_case(int64_t m, int64_t k, int64_t n, DType dtype) {
  const Tensor a = randn({m, k}).to(dtype), b = randn({k, n}).to(dtype);
  return [a, b] {
    const NoGrad guard;
    keep(matmul(a, b));
  };
}

std::function<void()> add_case(bool recorded) {
  Tensor a = ones({1});
  if (recorded) a.requires_grad_();
  const Tensor b = full({1}, 2.0);
  return [a, b, recorded] {
    std::optional<NoGrad> guard;
    if (!recorded) guard.emplace();
    for (int i = 0; i < 1000; ++i) keep(add(a, b));
  };
}

std::function<void()> chain_case() {
  Tensor x = tensor(1.f);
  x.requires_grad_();
  const Tensor c = tensor(1.f);
  return [x, c] {
    x.set_grad({});
    Tensor y = x;
    for (int i = 0; i < 1000; ++i) y = y + c;
    y.backward();
  };
}

std::vector<Row> rows() {
  constexpr double kElements = 4.0 * 1024 * 1024;
  std::vector<Row> all;
  const auto add_row = [&all](const std::string& name, std::function<void()> work, double bytes = 0,
                              double operations = 0, int threads = 1) {
    all.push_back({name, std::move(work), bench::peer_case(name), threads, bytes, operations});
  };
  add_row("add 1 element x1000", add_case(false));
  add_row("add 1 element recorded x1000", add_case(true));
  add_row("chain of 1000 adds fwd+bwd", chain_case());
  {
    const Tensor a = randn({1024, 4096}), b = randn({1024, 4096});
    add_row(
        "add 4M f32",
        [a, b] {
          const NoGrad guard;
          keep(a + b);
        },
        12 * kElements);
  }
  add_row("exp 4M f32", unary([](const Tensor& x) { return exp(x); }), 8 * kElements);
  add_row("tanh 4M f32", unary([](const Tensor& x) { return tanh(x); }), 8 * kElements);
  add_row("sigmoid 4M f32", unary([](const Tensor& x) { return sigmoid(x); }), 8 * kElements);
  add_row("gelu 4M f32", unary([](const Tensor& x) { return gelu(x); }), 8 * kElements);
  add_row("gelu tanh 4M f32",
          unary([](const Tensor& x) { return gelu(x, {.approximate = GeluApproximation::tanh}); }),
          8 * kElements);
  add_row("sum 4M f32", unary([](const Tensor& x) { return sum(x); }), 4 * kElements);
  add_row("softmax 4M f32", unary([](const Tensor& x) { return softmax(x, -1); }), 8 * kElements);
  add_row("layer_norm 4M f32", unary([](const Tensor& x) { return layer_norm(x, {4096}); }),
          8 * kElements);
  add_row("transpose copy 4M f32", unary([](const Tensor& x) { return x.t().contiguous(); }),
          8 * kElements);
  add_row("matmul 64 f32", matmul_case(64, 64, 64, DType::f32), 0, 2.0 * 64 * 64 * 64);
  add_row("matmul 512 f32", matmul_case(512, 512, 512, DType::f32), 0, 2.0 * 512 * 512 * 512);
  add_row("matmul 512x768x3072 f32", matmul_case(512, 768, 3072, DType::f32), 0,
          2.0 * 512 * 768 * 3072);
  add_row("matmul 512x768x3072 bf16", matmul_case(512, 768, 3072, DType::bf16), 0,
          2.0 * 512 * 768 * 3072);
  {
    Tensor x = randn({1024, 32000});
    x.requires_grad_();
    const Tensor y = randint(0, 32000, {1024});
    add_row("cross_entropy 1024x32000 fwd+bwd", [x, y] {
      x.set_grad({});
      cross_entropy(x, y).backward();
    });
  }
  {
    Tensor w = randn({32000, 768});
    w.requires_grad_();
    const Tensor ids = randint(0, 32000, {8, 1024});
    add_row("embedding 32000x768 fwd+bwd", [w, ids] {
      w.set_grad({});
      sum(embedding(ids, w)).backward();
    });
  }
  {
    const Tensor q = randn({4, 12, 1024, 64}), k = randn({4, 12, 1024, 64}),
                 v = randn({4, 12, 1024, 64});
    add_row(
        "attention 4x12x1024x64 causal",
        [q, k, v] {
          const NoGrad guard;
          keep(scaled_dot_product_attention(q, k, v, {.is_causal = true}));
        },
        0, 4.0 * 48 * 1024 * 1024 * 64);
  }
  {
    const Tensor x = randn({32, 64, 56, 56}), w = randn({64, 64, 3, 3});
    add_row(
        "conv2d 32x64x56x56 3x3",
        [x, w] {
          const NoGrad guard;
          keep(conv2d(x, w, {}, {.padding = 1}));
        },
        0, 2.0 * 32 * 64 * 56 * 56 * 64 * 9);
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  weft::manual_seed(1);
  return weft::bench::run_rows(argc, argv, rows(), [](int threads) {
    weft::set_num_threads(threads);
    weft::bench::set_peer_threads(threads);
  });
}
