"""A real Open MPI: mpirun starts training on this host, and over hosts.

What it takes to run Debian's Open MPI 4.1 as root in a container:
- As root it refuses to start without OMPI_ALLOW_RUN_AS_ROOT and ..._CONFIRM, both.
- It counts cores as slots: `--oversubscribe`, or four ranks on two cores are an error.
- Other hosts are reached by `plm_rsh_agent`, called as `AGENT [options] HOST COMMAND…`; the script
  `into_host` enters the namespace instead of calling ssh.
- Several networks confuse it: `oob_tcp_if_include` and `btl_tcp_if_include` name the bridge's.
- Each rank's stdout is a terminal that mpirun makes; NO_COLOR keeps the launcher's plain.
- Its session folder lies below TMPDIR and is removed when mpirun ends, after a kill too.
- mpirun kills the other ranks at once when one is killed by a signal, and exits with 128 + signal
  itself; what the launcher says about its own ranks comes out through mpirun's stderr.
"""
import os

from harness import Program, Suite, check, run
from hosts import NETWORK
from slurm import killed, reaches_accuracy, trained

suite = Suite("mpi")


def mpirun(*options):
    return ["mpirun", "--oversubscribe", *options]


@suite.set_up
def set_up(context):
    # Ranks of Open MPI have a terminal for stdout, on which the launcher writes in colour.
    os.environ.update(NO_COLOR="1")
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    # `into_host HOST COMMAND…`, as mpirun calls its agent.
    agent = context.file("into_host")
    with open(agent, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nhost=$1\nshift\ncase $host in\n" + "".join(
            f"  {name}) exec {' '.join(context.hosts.on(k))} sh -c \"$*\" ;;\n"
            for k in context.hosts.holders for name in [f"n{k}"]) + "esac\nexit 1\n")
    os.chmod(agent, 0o755)


@suite.tear_down
def tear_down(_):
    del os.environ["OMPI_ALLOW_RUN_AS_ROOT"], os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"]


def on_hosts(context, *names):
    """mpirun over hosts, with what ranks on several of them need: the secret and rank 0's host."""
    network = NETWORK + "0/24"
    return mpirun("--host", ",".join(names), "--mca", "plm", "rsh", "--mca", "plm_rsh_agent",
                  context.file("into_host"), "--mca", "oob_tcp_if_include", network,
                  "--mca", "btl_tcp_if_include", network, "-x", "WEFT_TOKEN_FILE", "-x",
                  "MASTER_ADDR=" + names[0].split(":")[0])


@suite.case("mpirun starts tasks on three hosts")
def tasks(context):
    done = run([*on_hosts(context, "n1:2", "n2", "n3"), "-n", "4", "sh", "-c",
                "echo $OMPI_COMM_WORLD_RANK $(hostname)"], env={"WEFT_TOKEN_FILE": "/dev/null"})
    words = dict(line.split() for line in done.out.splitlines())
    check(done.code == 0 and words == {"0": "n1", "1": "n1", "2": "n2", "3": "n3"},
          f"tasks were spread as {words}", done)


@suite.case("mpirun -n 4 train_digits, bare")
def bare(context):
    return trained(context, mpirun("-n", "4"), 4)


@suite.case("mpirun -n 4 train_digits, bare, on two hosts")
def bare_two_hosts(context):
    return trained(context, [*on_hosts(context, "n1:2", "n2:2"), "-n", "4"], 4,
                   env={"WEFT_TOKEN_FILE": context.token_file()})


@suite.case("mpirun on two hosts without rank 0's address is an error that says what to add")
def no_address(context):
    command = on_hosts(context, "n1:2", "n2:2")
    done = run([*command[:-2], "-n", "4", *context.digits()],
               env={"WEFT_TOKEN_FILE": context.token_file()})
    check(done.code == 1 and "mpirun -x MASTER_ADDR=HOST" in done.err, "not said", done)


@suite.case("mpirun -n 1 launcher -n 4 train_digits")
def launcher_alone(context):
    return trained(context, mpirun("-n", "1", context.launcher, "-n", "4"), 4)


@suite.case("mpirun, one launcher -n 2 on each of two hosts")
def launcher_each(context):
    return trained(context, [*on_hosts(context, "n1:1", "n2:1"), "-n", "2", context.launcher,
                             "-n", "2"], 4,
                   env={"WEFT_TOKEN_FILE": context.token_file()})


@suite.case("mpirun -n 4 train_digits as it is reaches its accuracy")
def whole(context):
    return reaches_accuracy(context, mpirun("-n", "4"))


@suite.case("kill -9 of a bare rank ends the job")
def kill_bare(context):
    program = Program(mpirun("-n", "4", *context.digits(epochs=1000)), title="mpirun")
    return killed(context, program, "OMPI_COMM_WORLD_RANK", 137)


@suite.case("kill -9 of a bare rank ends the job on both of its hosts")
def kill_bare_two_hosts(context):
    program = Program([*on_hosts(context, "n1:2", "n2:2"), "-n", "4", *context.digits(epochs=1000)],
                      env={"WEFT_TOKEN_FILE": context.token_file()}, title="mpirun")
    return killed(context, program, "OMPI_COMM_WORLD_RANK", 137)


@suite.case("kill -9 of a rank under mpirun launcher ends the job on both hosts")
def kill_launched(context):
    program = Program([*on_hosts(context, "n1:1", "n2:1"), "-n", "2", context.launcher, "-n", "2",
                       *context.digits(epochs=1000)],
                      env={"WEFT_TOKEN_FILE": context.token_file()}, title="mpirun launcher")
    return killed(context, program, "RANK", 137)
