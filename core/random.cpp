#include <weft/core/random.hpp>

#include <bit>
#include <cmath>
#include <mutex>
#include <numbers>

#include <weft/core/kernel/philox.hpp>
#include <weft/core/random_fill.hpp>

namespace weft::inline v0 {

namespace {

struct Generator {
  std::mutex mutex;
  PhiloxState state;
};

// The default generator of the process.
Generator& generator() {
  static Generator instance;
  return instance;
}

}  // namespace

void manual_seed(uint64_t seed) { set_random_state({seed, 0}); }

PhiloxState reserve_random(uint64_t draws) {
  Generator& g = generator();
  const std::lock_guard lock(g.mutex);
  const PhiloxState start = g.state;
  g.state.offset += (draws + 3) / 4;
  return start;
}

PhiloxState random_state() {
  Generator& g = generator();
  const std::lock_guard lock(g.mutex);
  return g.state;
}

void set_random_state(PhiloxState state) {
  Generator& g = generator();
  const std::lock_guard lock(g.mutex);
  g.state = state;
}

namespace detail {

// Note [Random numbers]
// An element's number is a function of seed, offset and the element's place alone. What is done to
// the words beyond whole-number arithmetic (Box-Muller) is written here with + - * / and sqrt and
// compiled once without the flags of a CPU level: a fused multiply-add, or another version of libm,
// would change last bits from machine to machine, and with them the start of a training run.

namespace {

constexpr double kPi = std::numbers::pi;

/// log of a number in (0, 1]: its exponent, and the series of 2 artanh((m - 1) / (m + 1)) for the
/// mantissa m in [1/sqrt 2, sqrt 2].
double log_unit(double x) {
  const auto bits = std::bit_cast<uint64_t>(x);
  // Adding this moves mantissas from sqrt 2 on into the next exponent.
  constexpr uint64_t kShift = 0x3ff0000000000000u - 0x3fe6a09e667f3bcdu;
  const uint64_t shifted = bits + kShift;
  const auto exponent = static_cast<int32_t>(shifted >> 52) - 1023;
  const double m = std::bit_cast<double>((shifted & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
  const double s = (m - 1) / (m + 1), z = s * s;
  double sum = 0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * z + 1.0 / k;
  return 2 * s * sum + exponent * std::numbers::ln2;
}

struct SinCos {
  double sin, cos;
};

/// sin and cos of 2 pi u, u in [0, 1): Taylor's series on the nearest quarter turn.
SinCos sincos_turn(double u) {
  const int quarter = static_cast<int>(u * 4 + 0.5);
  const double x = (u - quarter * 0.25) * (2 * kPi), z = x * x;
  double s = 0, c = 0;
  for (int k = 19; k >= 3; k -= 2) s = (1 - s) * z / (k * (k - 1.0));
  for (int k = 20; k >= 2; k -= 2) c = (1 - c) * z / (k * (k - 1.0));
  s = x * (1 - s);
  c = 1 - c;
  const double sines[4] = {s, c, -s, -c}, cosines[4] = {c, -s, -c, s};
  return {sines[quarter & 3], cosines[quarter & 3]};
}

/// Two normal numbers from u in (0, 1] and v in [0, 1): Box and Muller, 1958.
void normal_pair(double u, double v, double& first, double& second) {
  const double radius = std::sqrt(-2 * log_unit(u));
  const SinCos turn = sincos_turn(v);
  first = radius * turn.cos;
  second = radius * turn.sin;
}

uint64_t join(uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; }

double unit53(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

/// Calls draw(words, out) for counters that give `per_counter` elements each, then copies what is
/// wanted.
template <class T, class Draw>
void for_counters(const PhiloxState& state, int64_t first, int64_t n, int per_counter, T* out,
                  const Draw& draw) {
  uint64_t position = state.offset + static_cast<uint64_t>(first / per_counter);
  for (int64_t i = 0; i < n; i += per_counter, ++position) {
    T values[4];
    draw(kernel::philox_at(state.seed, position), values);
    const int64_t count = n - i < per_counter ? n - i : per_counter;
    for (int64_t k = 0; k < count; ++k) out[i + k] = values[k];
  }
}

}  // namespace

void uniform_run(const PhiloxState& state, int64_t first, int64_t n, int digits, float* out) {
  const int drop = 32 - digits;
  const auto unit = static_cast<float>(std::ldexp(1.0, -digits));
  for_counters(state, first, n, 4, out, [&](const kernel::PhiloxWords& words, float* to) {
    for (int k = 0; k < 4; ++k) to[k] = static_cast<float>(words.word[k] >> drop) * unit;
  });
}

void uniform_run(const PhiloxState& state, int64_t first, int64_t n, double* out) {
  for_counters(state, first, n, 2, out, [](const kernel::PhiloxWords& w, double* to) {
    to[0] = unit53(join(w.word[0], w.word[1]));
    to[1] = unit53(join(w.word[2], w.word[3]));
  });
}

void normal_run(const PhiloxState& state, int64_t first, int64_t n, float* out) {
  for_counters(state, first, n, 4, out, [](const kernel::PhiloxWords& w, float* to) {
    for (int k = 0; k < 4; k += 2) {
      double a, b;
      normal_pair((w.word[k] + 1.0) * 0x1p-32, w.word[k + 1] * 0x1p-32, a, b);
      to[k] = static_cast<float>(a);
      to[k + 1] = static_cast<float>(b);
    }
  });
}

void normal_run(const PhiloxState& state, int64_t first, int64_t n, double* out) {
  for_counters(state, first, n, 2, out, [](const kernel::PhiloxWords& w, double* to) {
    normal_pair(unit53(join(w.word[0], w.word[1])) + 0x1p-53, unit53(join(w.word[2], w.word[3])),
                to[0], to[1]);
  });
}

void integer_run(const PhiloxState& state, int64_t first, int64_t n, int64_t low, uint64_t range,
                 int64_t* out) {
  for_counters(state, first, n, 2, out, [&](const kernel::PhiloxWords& w, int64_t* to) {
    for (int k = 0; k < 2; ++k) {
      const uint64_t bits = join(w.word[2 * k], w.word[2 * k + 1]);
      to[k] = static_cast<int64_t>(static_cast<uint64_t>(low) + bits % range);
    }
  });
}

}  // namespace detail

}  // namespace weft::inline v0
