// Products through oneDNN, each call on the calling thread.
#include <weft/core/cpu/gemm.hpp>

#include <cstring>

#include <weft/core/base/check.hpp>
#include <weft/core/cpu/onednn.hpp>

namespace weft::inline v0::detail {

namespace {

using onednn::OneThread;
using onednn::PrimitiveCache;
using onednn::Thread;
using Memory = dnnl::memory;

// Everything that a bf16 primitive depends on.
struct MatmulKey {
  int64_t m, n, k, lda, ldb, ldc;
  int64_t a_transposed, b_transposed, has_bias, accumulate;
  bool operator==(const MatmulKey&) const = default;
};

struct MatmulEntry {
  dnnl::matmul primitive;
  Memory a, b, c, bias, scratch;
  size_t scratch_bytes;
  std::unordered_map<int, Memory> arguments;
};

Memory::desc matrix(int64_t rows, int64_t columns, int64_t stride, bool transposed) {
  return Memory::desc({rows, columns}, Memory::data_type::bf16,
                      transposed ? Memory::dims{1, stride} : Memory::dims{stride, 1});
}

dnnl::matmul::primitive_desc describe(const MatmulKey& key, const dnnl::engine& engine) {
  const Memory::desc a = matrix(key.m, key.k, key.lda, key.a_transposed != 0);
  const Memory::desc b = matrix(key.k, key.n, key.ldb, key.b_transposed != 0);
  const Memory::desc c = matrix(key.m, key.n, key.ldc, false);
  const Memory::desc bias({1, key.n}, Memory::data_type::bf16, Memory::dims{key.n, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.accumulate != 0) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
#if DNNL_VERSION_MAJOR >= 3
  if (key.has_bias != 0) return {engine, a, b, bias, c, attributes};
  return {engine, a, b, c, attributes};
#else
  if (key.has_bias != 0) return {dnnl::matmul::desc(a, b, bias, c), attributes, engine};
  return {dnnl::matmul::desc(a, b, c), attributes, engine};
#endif
}

std::unique_ptr<MatmulEntry> make_matmul(const MatmulKey& key, Thread& thread) {
  const dnnl::matmul::primitive_desc description = describe(key, thread.engine);
  auto entry = std::make_unique<MatmulEntry>();
  entry->primitive = dnnl::matmul(description);
  entry->a = Memory(description.src_desc(), thread.engine, nullptr);
  entry->b = Memory(description.weights_desc(), thread.engine, nullptr);
  entry->c = Memory(description.dst_desc(), thread.engine, nullptr);
  entry->scratch = Memory(description.scratchpad_desc(), thread.engine, nullptr);
  entry->scratch_bytes = description.scratchpad_desc().get_size();
  entry->arguments = {{DNNL_ARG_SRC, entry->a},
                      {DNNL_ARG_WEIGHTS, entry->b},
                      {DNNL_ARG_DST, entry->c},
                      {DNNL_ARG_SCRATCHPAD, entry->scratch}};
  if (key.has_bias != 0) {
    entry->bias = Memory(description.bias_desc(), thread.engine, nullptr);
    entry->arguments.emplace(DNNL_ARG_BIAS, entry->bias);
  }
  return entry;
}

void* writable(const void* data) { return const_cast<void*>(data); }

}  // namespace

// Note [f32 products through dnnl_sgemm]
// oneDNN 2.6's matmul primitive reaches the same speed with a transposed right side, but half of it
// without (512x3072x768 NN: 92 against 193 GFLOP/s), and it needs a cache. Its BLAS function needs
// neither and costs 0.25 us a call. It has no bias: the result starts as the bias instead.
void onednn_gemm_f32(const GemmTile& t) {
  auto* c = static_cast<float*>(t.c);
  if (t.bias != nullptr) {
    const auto* bias = static_cast<const float*>(t.bias);
    for (int64_t i = 0; i < t.m; ++i)
      std::memcpy(c + i * t.ldc, bias, static_cast<size_t>(t.n) * sizeof(float));
  }
  const OneThread one;
  const float beta = t.accumulate || t.bias != nullptr ? 1.0f : 0.0f;
  const dnnl_status_t status = dnnl_sgemm(
      t.a_transposed ? 'T' : 'N', t.b_transposed ? 'T' : 'N', t.m, t.n, t.k, 1.0f,
      static_cast<const float*>(t.a), t.lda, static_cast<const float*>(t.b), t.ldb, beta, c, t.ldc);
  WEFT_CHECK(Error, status == dnnl_success, "matmul: oneDNN failed with status {} for {}x{}x{}",
             static_cast<int>(status), t.m, t.n, t.k);
}

bool onednn_has_bf16() {
  // From AVX-512 on; older CPUs have a bit of it nowhere in the mask.
  static const bool has = [] {
    static_cast<void>(Thread::current());
    const auto isa = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
    const auto needed = static_cast<unsigned>(dnnl_cpu_isa_avx512_core);
    return (isa & needed) == needed;
  }();
  return has;
}

void onednn_gemm_bf16(const GemmTile& t) {
  static thread_local PrimitiveCache<MatmulKey, MatmulEntry> cache;
  const OneThread one;
  Thread& thread = Thread::current();
  try {
    const MatmulKey key{t.m,
                        t.n,
                        t.k,
                        t.lda,
                        t.ldb,
                        t.ldc,
                        t.a_transposed,
                        t.b_transposed,
                        t.bias != nullptr,
                        t.accumulate};
    MatmulEntry& entry =
        cache.find(key, [&](const MatmulKey& missing) { return make_matmul(missing, thread); });
    entry.a.set_data_handle(writable(t.a));
    entry.b.set_data_handle(writable(t.b));
    entry.c.set_data_handle(t.c);
    if (t.bias != nullptr) entry.bias.set_data_handle(writable(t.bias));
    entry.scratch.set_data_handle(thread.scratch_of(entry.scratch_bytes));
    entry.primitive.execute(thread.stream, entry.arguments);
    thread.stream.wait();
  } catch (const dnnl::error& error) {
    onednn::fail("matmul", error);
  }
}

}  // namespace weft::inline v0::detail
