#include <weft/core/cpu/onednn.hpp>

#include <algorithm>

#include <weft/core/base/check.hpp>
#include <weft/core/cpu/level.hpp>

#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
// Declared here, as clang's own <omp.h> would bring in a second OpenMP library.
extern "C" int omp_get_max_threads();
extern "C" void omp_set_num_threads(int count);
#endif

namespace weft::inline v0::detail::onednn {

OneThread::OneThread() : previous_(1) {
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
  previous_ = omp_get_max_threads();
  if (previous_ != 1) omp_set_num_threads(1);
#endif
}

OneThread::~OneThread() {
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_OMP
  if (previous_ != 1) omp_set_num_threads(previous_);
#endif
}

namespace {

// WEFT_CPU_LEVEL holds for oneDNN too. The library takes it before its first primitive alone;
// where a host program was faster, its setting stays.
dnnl::engine make_engine() {
  static const bool limited = [] {
    const CpuLevel level = cpu_level();
    if (level == CpuLevel::baseline) dnnl_set_max_cpu_isa(dnnl_cpu_isa_sse41);
    if (level == CpuLevel::avx2) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
    return true;
  }();
  static_cast<void>(limited);
  return dnnl::engine(dnnl::engine::kind::cpu, 0);
}

}  // namespace

Thread::Thread() : engine(make_engine()), stream(engine) {}

std::byte* Thread::scratch_of(size_t bytes) {
  if (!scratch || scratch->bytes < bytes)
    scratch = Storage::allocate(std::max<size_t>(bytes, size_t{1} << 16), Device::cpu(), "onednn");
  return scratch->data;
}

Thread& Thread::current() {
  static thread_local Thread thread;
  return thread;
}

void fail(const char* op, const dnnl::error& error) {
  detail::fail<Error>("{}: oneDNN failed: {} (status {})", op, error.what(),
                      static_cast<int>(error.status));
}

}  // namespace weft::inline v0::detail::onednn
