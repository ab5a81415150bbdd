"""`launcher --hostfile`, over a real sshd on each host."""
import os
import shutil
import time

from harness import Program, Skip, Suite, check, run
from training import check_same_training, kill_rank, ranks_running

suite = Suite("ssh")

CONFIGURATION = """
Port 22
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PrintMotd no
PrintLastLog no
"""


def make_key(path):
    done = run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path])
    check(done.code == 0, "no key was made", done)


@suite.set_up
def set_up(context):
    if shutil.which("/usr/sbin/sshd") is None:
        raise Skip("there is no sshd; as root, run: apt-get install -y openssh-server")
    folder = context.file("ssh")
    os.makedirs(folder, mode=0o700)
    os.makedirs("/run/sshd", exist_ok=True)  # where sshd locks its unprivileged part up
    make_key(f"{folder}/host_key")
    make_key(f"{folder}/user_key")
    shutil.copy(f"{folder}/user_key.pub", f"{folder}/authorized_keys")
    configuration = f"{folder}/sshd_config"
    with open(configuration, "w", encoding="ascii") as file:
        file.write(CONFIGURATION.format(folder=folder))
    context.sshds = [
        Program([*context.hosts.on(k), "/usr/sbin/sshd", "-D", "-e", "-f", configuration],
                title=f"sshd on n{k}")
        for k in context.hosts.holders]
    Program.running.clear()
    # Neither the user's own configuration nor his known hosts: what is asked there would hang.
    context.ssh = (f"ssh -F none -i {folder}/user_key -o IdentitiesOnly=yes -o BatchMode=yes "
                   f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=accept-new "
                   "-o LogLevel=ERROR")
    for k in context.hosts.holders:
        check(context.hosts.reaches(0, k, 22), f"sshd on n{k} does not listen", *context.sshds)
        done = run([*context.ssh.split(), f"n{k}", "hostname"])
        check(done.out.strip() == f"n{k}", "ssh does not get there", done, *context.sshds)


@suite.tear_down
def tear_down(context):
    for sshd in context.sshds:
        sshd.kill()


def hostfile(context, text):
    return context.write("hostfile", text)


def launch(context, text, *program, options=()):
    return Program([*context.hosts.on(1), context.launcher, "--hostfile", hostfile(context, text),
                    *options, *program], title="launcher --hostfile",
                   env={"WEFT_SSH": context.ssh, "WEFT_NUM_THREADS": "1"})


@suite.case("launcher --hostfile trains on two hosts")
def two_hosts(context):
    path = context.file("ssh.json")
    done = launch(context, "# ours\nn1 slots=2\nn2 slots=2\n", *context.digits("--json", path))
    done.finish(120)
    check(done.code == 0, "training failed", done)
    return check_same_training(context, path, done, 4)


@suite.case("launcher --hostfile trains on three hosts of two ranks")
def three_hosts(context):
    path = context.file("ssh.json")
    done = launch(context, "n1:2\nn2:2\nn3:2\n", *context.digits("--json", path))
    done.finish(120)
    check(done.code == 0, "training failed", done)
    return check_same_training(context, path, done, 6)


@suite.case("kill -9 of a rank on another host ends all of them")
def kill_far_rank(context):
    program = launch(context, "n1:2\nn2:2\n", *context.digits(epochs=10000))
    program.wait_for(r"step +[0-9]+", limit=60)
    check(sorted(ranks_running(context, "RANK")) == [0, 1, 2, 3], "not all ranks run", program)
    pid = kill_rank(context, 3, "RANK")
    began = time.monotonic()
    program.finish(40)
    check(program.code == 137, f"exit code {program.code}, not 137", program)
    check(f"rank 3 " in program.err and f"pid {pid}" in program.err, "rank 3 is not named", program)
    return f"ended {time.monotonic() - began:.1f} s after the kill"


@suite.case("Ctrl-C ends the ranks on all hosts")
def interrupted(context):
    program = launch(context, "n1:2\nn2:2\n", *context.digits(epochs=10000))
    program.wait_for(r"step +[0-9]+", limit=60)
    program.signal(2)
    program.finish(40)
    check(program.code == 130, f"exit code {program.code}, not 130", program)
    return f"{program.seconds:.1f} s in all"


@suite.case("a host that ssh does not reach is named")
def unreachable(context):
    program = launch(context, "n1:2\nn9.invalid:2\n", *context.digits(),
                     options=["--join_timeout", "20"])
    program.finish(60)
    check(program.code not in (0, 137), f"exit code {program.code}", program)
    check("n9.invalid" in program.err, "the host is not named", program)
    return program.err.splitlines()[0]


@suite.case("launcher test --hostfile passes on two hosts")
def self_test(context):
    program = Program([*context.hosts.on(1), context.launcher, "test", "--hostfile",
                       hostfile(context, "n1 slots=2\nn2 slots=2\n"), "--check_limit", "60"],
                      title="launcher test --hostfile", env={"WEFT_SSH": context.ssh})
    program.finish(120)
    check(program.code == 0, f"exit code {program.code}", program)
    check("4 ranks" in program.out, "not four ranks", program)
    return program.out.splitlines()[-1]
