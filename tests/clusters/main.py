"""See the script `run`, which prepares the namespaces and starts this."""
import argparse
import os
import signal
import sys

import mpi
import namespaces
import slurm
import ssh
from harness import Runner
from hosts import Hosts
from training import Context

SUITES = {"slurm": slurm.suite, "mpi": mpi.suite, "namespaces": namespaces.suite, "ssh": ssh.suite}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--folder", required=True, help="an empty one, which the script removes")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    names = [name for name in options.names if name in SUITES] or list(SUITES)
    wanted = [name for name in options.names if name not in SUITES]

    folder = options.folder
    os.chmod(folder, 0o711)  # munge wants its socket to be within reach of all users
    scratch = os.path.join(folder, "tmp")
    os.mkdir(scratch)
    # A shell has what it starts in the background ignore them, and so all that is started here.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    # What an outer job has left in the environment would be taken for this one's.
    for name in list(os.environ):
        if name.startswith(("SLURM", "OMPI", "PMI", "WEFT_", "MASTER_", "RANK", "WORLD_SIZE",
                            "LOCAL_", "ACCELERATE_", "XDG_")):
            del os.environ[name]
    os.environ.update(TMPDIR=scratch, WEFT_HOME=os.path.join(folder, "home"), LC_ALL="C")
    context = Context(os.path.realpath(options.build), folder, Hosts(3, folder))
    runner = Runner([scratch, "/dev/shm"])
    for name in names:
        runner.run_suite(SUITES[name], context, wanted)
    if options.keep:
        print(f"logs are in {folder}", file=sys.stderr)
    return runner.finish()


sys.exit(main())
