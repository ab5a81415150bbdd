// Every interleaving of the phases of dist/comm/control.cpp (Note [Phases], Note [Sleeping]) for 2
// and 3 ranks: no rank sleeps for ever, and what a phase published is read whole by all.
//
// A model of the code, step by step: each shared word is read or written in a step of its own, and
// stores wait in a buffer, in order, until the CPU lets the others see them (as x86 does; a fence
// or a read-modify-write empties the buffer first). Sleeps have no time limit here: a wake-up that
// is lost is a state without successors. To show that the explorer finds mistakes, the model is
// also run with each of its precautions left out.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

constexpr int kMostRanks = 3;
constexpr int kBuffer = 3;  // a rank has at most 3 stores under way: two of its data, its arrival

enum class Mistake {
  none,
  no_fence_after_wait,  ///< who leaves looks for sleepers before its own arrival is seen
  no_second_look,       ///< sleeps without looking whether all came while it registered
  late_bell,            ///< reads the bell after the second look
  no_ring,              ///< leaves without waking anybody
  one_copy,             ///< publishes both parities in the same place
};

// Where a rank is. Each is one step; looks and reads at the others are one step per rank.
enum Place : uint8_t {
  publish_begin,
  publish_end,
  arrive,
  look,
  fall_asleep,  // register
  note_bell,
  look_again,
  note_bell_late,
  sleep,
  asleep,
  unregister,
  leave_fence,
  look_for_sleepers,
  ring,
  wake,
  read,
  done,
};

// Words of shared memory: data and arrival of each rank and parity, the bell, the sleepers.
constexpr int data_at(int rank, int parity) { return rank * 4 + parity; }
constexpr int arrival_at(int rank, int parity) { return rank * 4 + 2 + parity; }
constexpr int kBell = kMostRanks * 4, kSleepers = kBell + 1, kWords = kSleepers + 1;
constexpr uint8_t kTorn = 99;

struct Store {
  uint8_t word, value;
};

struct Rank {
  uint8_t place = publish_begin, phase = 1, other = 0, rung = 0, buffered = 0;
  std::array<Store, kBuffer> buffer = {};
};

struct State {
  std::array<uint8_t, kWords> memory = {};
  std::array<Rank, kMostRanks> ranks = {};
};
static_assert(std::has_unique_object_representations_v<State>);

struct Outcome {
  size_t states = 0;
  std::string problem;
};

class Explorer {
 public:
  Explorer(int ranks, int phases, Mistake mistake)
      : ranks_(ranks), phases_(phases), mistake_(mistake) {}

  Outcome run() {
    add(State{});
    while (!open_.empty() && problem_.empty()) {
      const State state = open_.front();
      open_.pop_front();
      const size_t before = successors_;
      for (int rank = 0; rank < ranks_; ++rank) {
        flush(state, rank);
        step(state, rank);
      }
      if (successors_ == before) check_final(state);
    }
    return {seen_.size(), problem_};
  }

 private:
  void add(const State& state) {
    ++successors_;
    std::string key(reinterpret_cast<const char*>(&state), sizeof state);
    if (seen_.insert(std::move(key)).second) open_.push_back(state);
  }

  void check_final(const State& state) {
    for (int rank = 0; rank < ranks_; ++rank)
      if (state.ranks[static_cast<size_t>(rank)].place != done) problem_ = "a rank sleeps for ever";
    if (problem_.empty() && state.memory[kSleepers] != 0) problem_ = "sleepers stay registered";
  }

  /// The rank's oldest store becomes visible.
  void flush(const State& state, int rank) {
    if (state.ranks[static_cast<size_t>(rank)].buffered == 0) return;
    State next = state;
    Rank& it = next.ranks[static_cast<size_t>(rank)];
    next.memory[it.buffer[0].word] = it.buffer[0].value;
    --it.buffered;
    for (size_t i = 0; i < it.buffered; ++i) it.buffer[i] = it.buffer[i + 1];
    it.buffer[it.buffered] = {};  // equal states look alike
    add(next);
  }

  static void store(Rank& it, int word, int value) {
    it.buffer[it.buffered++] = {static_cast<uint8_t>(word), static_cast<uint8_t>(value)};
  }

  int parity_of_data(int phase) const { return mistake_ == Mistake::one_copy ? 0 : phase & 1; }

  void step(const State& state, int rank) {
    State next = state;
    Rank& it = next.ranks[static_cast<size_t>(rank)];
    const bool drained = it.buffered == 0;
    const auto go = [&](Place place) {
      it.place = place;
      it.other = 0;
      add(next);
    };
    switch (it.place) {
      case publish_begin:
        if (!drained) return;  // older stores are out: at most one phase's are buffered
        store(it, data_at(rank, parity_of_data(it.phase)), kTorn);
        return go(publish_end);
      case publish_end:
        store(it, data_at(rank, parity_of_data(it.phase)), it.phase);
        return go(arrive);
      case arrive: store(it, arrival_at(rank, it.phase & 1), it.phase); return go(look);
      case look:
        if (look_at_next(next, rank, leave_fence)) return;
        return go(fall_asleep);  // or it looks again, which changes nothing
      case fall_asleep:
        if (!drained) return;
        ++next.memory[kSleepers];
        return go(mistake_ == Mistake::late_bell ? look_again : note_bell);
      case note_bell:
        it.rung = next.memory[kBell];
        return go(mistake_ == Mistake::no_second_look ? sleep : look_again);
      case look_again:
        if (look_at_next(next, rank, unregister)) return;
        return go(mistake_ == Mistake::late_bell ? note_bell_late : sleep);
      case note_bell_late: it.rung = next.memory[kBell]; return go(sleep);
      case sleep: return go(next.memory[kBell] == it.rung ? asleep : unregister);
      case asleep: return;
      case unregister:
        --next.memory[kSleepers];
        it.rung = 0;
        return go(look);
      case leave_fence:
        if (!drained && mistake_ != Mistake::no_fence_after_wait) return;
        return go(look_for_sleepers);
      case look_for_sleepers:
        return go(next.memory[kSleepers] != 0 && mistake_ != Mistake::no_ring ? ring : read);
      case ring:
        if (!drained) return;
        ++next.memory[kBell];
        return go(wake);
      case wake:
        for (Rank& other : next.ranks)
          if (other.place == asleep) other.place = unregister;
        return go(read);
      case read: return read_next(next, rank);
      default: return;
    }
  }

  /// Looks whether the next other rank has arrived; after the last one goes to `then`. False where
  /// it has not.
  bool look_at_next(State& next, int rank, Place then) {
    Rank& it = next.ranks[static_cast<size_t>(rank)];
    if (it.other == rank) ++it.other;
    if (it.other < ranks_) {
      const int8_t ahead = static_cast<int8_t>(
          next.memory[static_cast<size_t>(arrival_at(it.other, it.phase & 1))] - it.phase);
      if (ahead < 0) return false;
      ++it.other;
    }
    if (it.other == rank) ++it.other;
    if (it.other >= ranks_) {
      it.place = then;
      it.other = 0;
    }
    add(next);
    return true;
  }

  /// Reads what the next other rank published; after the last one the phase is over.
  void read_next(State& next, int rank) {
    Rank& it = next.ranks[static_cast<size_t>(rank)];
    if (it.other == rank) ++it.other;
    if (it.other < ranks_) {
      const int word = data_at(it.other, parity_of_data(it.phase));
      if (next.memory[static_cast<size_t>(word)] != it.phase)
        problem_ = "data of another phase is read";
      ++it.other;
    }
    if (it.other == rank) ++it.other;
    if (it.other >= ranks_) {
      it.other = 0;
      it.place = it.phase == phases_ ? done : publish_begin;
      if (it.phase < phases_) ++it.phase;
    }
    add(next);
  }

  int ranks_, phases_;
  Mistake mistake_;
  size_t successors_ = 0;
  std::string problem_;
  std::deque<State> open_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

TEST_CASE("phases: every interleaving of 2 ranks over 5 phases, and of 3 over 3") {
  struct Row {
    int ranks, phases;
    size_t at_least;
  };
  for (const Row& row : {Row{2, 5, 1'000}, Row{3, 3, 10'000}}) {
    const Outcome outcome = Explorer(row.ranks, row.phases, Mistake::none).run();
    CAPTURE(row.ranks);
    CHECK_MESSAGE(outcome.problem.empty(), outcome.problem);
    CHECK(outcome.states > row.at_least);
    MESSAGE(row.ranks << " ranks, " << row.phases << " phases: " << outcome.states << " states");
  }
}

TEST_CASE("phases: the explorer finds what goes wrong without each precaution") {
  struct Row {
    Mistake mistake;
    const char* problem;
  };
  for (const Row& row : {Row{Mistake::no_fence_after_wait, "a rank sleeps for ever"},
                         Row{Mistake::no_second_look, "a rank sleeps for ever"},
                         Row{Mistake::late_bell, "a rank sleeps for ever"},
                         Row{Mistake::no_ring, "a rank sleeps for ever"},
                         Row{Mistake::one_copy, "data of another phase is read"}}) {
    CAPTURE(static_cast<int>(row.mistake));
    CHECK(Explorer(2, 3, row.mistake).run().problem == row.problem);
  }
}
