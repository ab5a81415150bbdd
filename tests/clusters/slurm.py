"""A real SLURM: slurmctld on n0, slurmd on n1 to n3, munge between them.

What it takes to run Debian's slurm-wlm 22.05 in a container without systemd, learnt the hard way:
- Paths on the daemons' command lines are absolute: slurmctld leaves its working directory, and
  then waits a minute for a `slurm.conf` that it cannot find, without any word on the terminal.
- A node that has fewer CPUs than its NodeName line says goes to state INVAL and never comes back:
  `SlurmdParameters=config_overrides` lets four tasks have four CPUs on any machine.
- Debian builds with --enable-multiple-slurmd, so `slurmd -N n1` chooses the node's line; one spool
  folder and pid file for each come from %n.
- Without systemd, control groups are nobody's: proctrack/linuxproc, task/none, no JobAcctGather.
- munged wants its key at mode 0400, and folders above socket and log that others cannot write.
- SlurmUser=root, as the packages' own user `slurm` may not read what root has put in a folder.
- `srun` finds the controller through SLURM_CONF, munge's socket through AuthInfo in that file.
- An old slurmctld whose port is still taken is killed by a new one: wait for its end first.
- slurmstepd outlives its step by a moment; it is gone a second or so after `srun` has returned.
"""
import os
import subprocess
import time

from harness import Program, Suite, check, run
from hosts import address

from training import accuracy_of, check_ranks, check_same_training, kill_rank, ranks_running

CONFIGURATION = """
ClusterName=weft
SlurmctldHost=n0({controller})
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
InactiveLimit=0
KillWait=10
MinJobAge=10
MailProg=/bin/true
{nodes}
PartitionName=all Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    def __init__(self, context):
        self.hosts = context.hosts
        self.folder = context.file("slurm")
        self.daemons = []
        for name in ("", "munge", "state", *(f"spool-n{k}" for k in context.hosts.holders)):
            os.makedirs(os.path.join(self.folder, name), mode=0o755)
        self.configuration = os.path.join(self.folder, "slurm.conf")
        nodes = "\n".join(f"NodeName=n{k} NodeAddr={address(k)} CPUs=4 State=UNKNOWN"
                          for k in context.hosts.holders)
        with open(self.configuration, "w", encoding="ascii") as file:
            file.write(CONFIGURATION.format(controller=address(0), folder=self.folder, nodes=nodes))

    def start(self):
        munge = os.path.join(self.folder, "munge")
        key = os.path.join(munge, "key")
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o400), "wb") as file:
            file.write(os.urandom(128))
        self.daemon(0, "munged", "--foreground", f"--key-file={key}", f"--socket={munge}/socket",
                    f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed")
        self.until("munge answers", lambda: os.path.exists(f"{munge}/socket"))
        self.daemon(0, "slurmctld", "-D", "-f", self.configuration)
        for k in self.hosts.holders:
            self.daemon(k, "slurmd", "-D", "-N", f"n{k}", "-f", self.configuration)
        os.environ["SLURM_CONF"] = self.configuration
        self.until("all nodes are idle", lambda: self.states() == ["idle"] * self.hosts.count)

    def daemon(self, host, *command):
        self.daemons.append(Program([*self.hosts.on(host), *command], title=command[0]))
        Program.running.clear()  # daemons outlive the cases

    def states(self):
        done = subprocess.run(["sinfo", "-N", "-h", "-o", "%t"], capture_output=True, text=True,
                              check=False, timeout=30)
        return done.stdout.split()

    def until(self, what, reached, limit=60):
        end = time.monotonic() + limit
        while not reached():
            for daemon in self.daemons:
                check(daemon.process.poll() is None, f"{daemon.title} has ended", daemon)
            check(time.monotonic() < end, f"not within {limit} s: {what}; sinfo says "
                  f"{self.states()}", *self.daemons)
            time.sleep(0.1)

    def stop(self):
        os.environ.pop("SLURM_CONF", None)
        for daemon in reversed(self.daemons):
            daemon.process.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.process.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


suite = Suite("slurm")


@suite.set_up
def set_up(context):
    context.slurm = Slurm(context)
    try:
        context.slurm.start()
    except BaseException:
        context.slurm.stop()
        raise


@suite.tear_down
def tear_down(context):
    context.slurm.stop()


@suite.case("srun starts four tasks on three nodes")
def tasks(_):
    done = run(["srun", "-N", "3", "-n", "4", "sh", "-c", "echo $SLURM_PROCID $(hostname)"])
    check(done.code == 0, "srun failed", done)
    words = dict(line.split() for line in done.out.splitlines())
    check(sorted(words) == ["0", "1", "2", "3"] and len(set(words.values())) == 3,
          f"tasks were spread as {words}", done)
    return f"hosts of tasks 0 to 3: {' '.join(words[str(k)] for k in range(4))}"


@suite.case("srun -n 4 train_digits, bare, on one node")
def bare_one_node(context):
    return trained(context, ["srun", "-N", "1", "-n", "4"], 4)


@suite.case("srun -n 4 train_digits, bare, on two nodes")
def bare_two_nodes(context):
    return trained(context, ["srun", "-N", "2", "--ntasks-per-node=2"], 4,
                   env={"WEFT_TOKEN_FILE": context.token_file()})


@suite.case("srun --ntasks-per-node=1 launcher -n 2 train_digits, on two nodes")
def launcher_each(context):
    return trained(context, ["srun", "-N", "2", "--ntasks-per-node=1", context.launcher, "-n", "2"],
                   4, env={"WEFT_TOKEN_FILE": context.token_file()})


@suite.case("salloc: the launcher alone in an allocation of one node")
def in_allocation(context):
    return trained(context, ["salloc", "-N", "1", "-n", "4", "srun", "-n", "1", "--overlap",
                             context.launcher, "-n", "4"], 4)


@suite.case("sbatch: srun launcher in a batch script, on two nodes")
def batch(context):
    result, script, out = (context.file(name) for name in ("batch.json", "batch.sh", "batch.out"))
    with open(script, "w", encoding="ascii") as file:
        file.write("#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=2\n"
                   f"export WEFT_TOKEN_FILE={context.token_file()}\n"
                   "srun --cpus-per-task=2 " + " ".join(
                       [context.launcher, "-n", "2", *context.digits("--json", result)]) + "\n")
    done = run(["sbatch", "--wait", "-o", out, script])
    with open(out, encoding="utf-8") as file:
        text = file.read()
    check(done.code == 0, f"the batch job failed:\n{text}", done)
    done.text["out"] += text
    return check_same_training(context, result, done, 4)


@suite.case("salloc: the launcher goes to both nodes of an allocation by itself")
def allocation_of_two(context):
    return trained(context, ["salloc", "-N", "2", "--ntasks-per-node=2", context.launcher], 4)


@suite.case("srun -n 4 train_digits as it is reaches its accuracy")
def whole(context):
    return reaches_accuracy(context, ["srun", "-N", "1", "-n", "4"])


@suite.case("kill -9 of a bare rank ends the step")
def kill_bare(context):
    program = Program(["srun", "-N", "1", "-n", "4", *context.digits(epochs=1000)], title="srun")
    return killed(context, program, "SLURM_PROCID", 137)


@suite.case("kill -9 of a bare rank ends the step on both of its nodes")
def kill_bare_two_nodes(context):
    program = Program(["srun", "-N", "2", "--ntasks-per-node=2", *context.digits(epochs=1000)],
                      env={"WEFT_TOKEN_FILE": context.token_file()}, title="srun")
    return killed(context, program, "SLURM_PROCID", 137)


@suite.case("kill -9 of a rank under srun launcher ends the step on both nodes")
def kill_launched(context):
    program = Program(["srun", "-N", "2", "--ntasks-per-node=1", context.launcher, "-n", "2",
                       *context.digits(epochs=1000)],
                      env={"WEFT_TOKEN_FILE": context.token_file()}, title="srun launcher")
    return killed(context, program, "RANK", 137)


def trained(context, start, ranks, env=None):
    """Runs train_digits behind `start` and holds it against the launcher with as many ranks."""
    result = context.file("result.json")
    done = run([*start, *context.digits("--json", result)], env=env)
    check(done.code == 0, "training failed", done)
    return f"{check_same_training(context, result, done, ranks)}, {done.seconds:.1f} s"


def reaches_accuracy(context, start):
    """The sample without any option, held against what it promises."""
    done = run([*start, context.train_digits])
    check(done.code == 0, "training failed", done)
    check_ranks(done, 4)
    accuracy = accuracy_of(done.out)
    check(accuracy >= 0.98, f"held-out accuracy {accuracy}, below 0.98", done)
    return f"accuracy {accuracy:.4f} in {done.seconds:.1f} s"


def killed(context, program, variable, code):
    """Kills rank 2 of 4 once training is under way: all must end, and somebody must name it."""
    program.wait_for(r"step +[0-9]+", limit=60)
    check(sorted(ranks_running(context, variable)) == [0, 1, 2, 3], "not all ranks run", program)
    pid = kill_rank(context, 2, variable)
    began = time.monotonic()
    program.finish(40)
    took = time.monotonic() - began
    check(program.code == code, f"exit code {program.code}, not {code}", program)
    named = f"rank 2 (pid {pid}) killed by SIGKILL"
    check("rank 2" in program.err, f"nobody named the rank; expected `{named}`", program)
    check(took <= 15, f"the step took {took:.1f} s to end", program)
    return f"ended {took:.1f} s after the kill"
