#include <weft/launcher/help.hpp>

namespace weft::inline v0::launcher {

const char* launch_help() {
  return R"(Starts a program as several ranks on this host, watches over them, passes on their output.

  launcher [launch] [OPTIONS] PROGRAM [ARGUMENTS]
  launcher COMMAND [ARGUMENTS]      another command, an executable weft-COMMAND
  launcher help [COMMAND]

Options (with _ or - between words; they end where the program's name stands, or at --):
  -n, --nproc_per_node N        ranks on this host; auto: one per core, or per WEFT_NUM_THREADS of
                                them (default: 1)
      --num_processes N         ranks over all hosts; on one host the same as -n
      --time_limit SECONDS      stop the job after this time; exit code 124
      --grace SECONDS           from asking the ranks to end to killing them (WEFT_GRACE; default: 10)
      --collective_timeout SECONDS   WEFT_COLLECTIVE_TIMEOUT for the ranks (default: 600)
      --join_timeout SECONDS    WEFT_JOIN_TIMEOUT for the ranks (default: 120)
  -h, --help                    this text
      --version                 the version

Exit code: 0, or that of the first rank that failed (128 + signal where a signal killed it);
2 usage or configuration, 124 time limit, 126 program not executable, 127 program not found,
130 Ctrl-C. Ctrl-C and other signals are passed on to the ranks; a second Ctrl-C kills them.

Each rank finds its place in RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and
MASTER_PORT, and may use WEFT_NUM_THREADS threads (its share of the CPUs, unless it is set). Rank 0
reads the launcher's input, unless that is a terminal.

  launcher -n 4 ./model_train --epochs 3
  launcher -n auto --time_limit 3600 ./model_train
)";
}

}  // namespace weft::inline v0::launcher
