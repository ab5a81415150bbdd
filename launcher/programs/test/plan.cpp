#include <weft/launcher/programs/test/plan.hpp>

#include <utility>

namespace weft::inline v0::self_test {

namespace {

constexpr CheckName kChecks[] = {
    {"state", "every rank knows its place and reaches a barrier"},
    {"ordering", "main_process_first and on_process"},
    {"split", "split_between_processes, even, uneven and padded"},
    {"gathering", "gather, gather_for_metrics, reduce, pad_across_processes"},
    {"trigger", "set_trigger on one rank is seen on all, once"},
    {"random_numbers", "equal on all ranks after synchronize_rng_states"},
    {"second_accelerator", "two Accelerators in one process"},
    {"loader_sequential", "each example once and in order"},
    {"loader_sequential_split", "the same with split_batches"},
    {"loader_shuffled", "each example once"},
    {"loader_shuffled_split", "the same with split_batches"},
    {"loader_dispatch", "batches read by one rank for all"},
    {"batch_sampler", "a sampler of one's own"},
    {"epochs", "the order is a function of seed and epoch"},
    {"training", "linear regression, three epochs: the weights of one process"},
    {"training_split", "the same with split_batches"},
    {"mixed_precision", "training in bf16 and f16"},
    {"data_parallel", "a network: the losses and weights of one process"},
    {"zero", "sharded optimizers: the weights of one process"},
    {"barrier", "and its time"},
    {"all_reduce", "every dtype and operation against an oracle, equal bits on all ranks"},
    {"reduce_scatter", "every dtype and operation against an oracle"},
    {"all_gather", "every dtype against an oracle"},
    {"broadcast", "every dtype, from every rank"},
    {"gather", "every dtype, to every rank"},
    {"scatter", "every dtype, from every rank"},
    {"all_to_all", "every dtype against an oracle"},
    {"send_recv", "every dtype around the ring, both ways"},
    {"objects", "strings of any bytes and sizes: gathered and broadcast"},
    {"shared_memory", "tensors that the ranks of a host share, reduced in place"},
    {"split_groups", "two groups out of one"},
    {"pairs", "messages between each two ranks, and their time"},
    {"bandwidth_all_reduce", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_reduce_scatter", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_all_gather", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_broadcast", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_gather", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_scatter", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_all_to_all", "at 4 KiB, 1 MiB, 16 MiB"},
    {"bandwidth_send_recv", "at 4 KiB, 1 MiB, 16 MiB"},
    // Last: from here on the ranks ask instead of ending where a signal comes.
    {"stop_requested", "a signal to one rank is seen by all at the same step"},
};

constexpr std::pair<const char*, Fault> kFaults[] = {{"wrong", Fault::wrong},
                                                     {"crash", Fault::crash},
                                                     {"hang", Fault::hang},
                                                     {"leave", Fault::leave}};

}  // namespace

std::span<const CheckName> check_names() { return kChecks; }

std::optional<PlannedFault> parse_fault(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return std::nullopt;
  const std::string how = text.substr(equals + 1);
  for (const auto& [name, fault] : kFaults)
    if (how == name) return PlannedFault{text.substr(0, equals), fault};
  return std::nullopt;
}

}  // namespace weft::inline v0::self_test
