"""train_digits, run in all the ways, and what its results are held against."""
import json
import os
import re
import secrets
import signal

from harness import Failure, check, environment_of, pids_of, run

STEPS = re.compile(r"\d+ steps on (\d+) ranks? in")
ACCURACY = re.compile(r"held-out accuracy: ([0-9.]+)$", re.MULTILINE)


class Context:
    """What cases share: the build, the hosts, a folder for files, and the reference results."""

    def __init__(self, build, folder, hosts):
        self.build = build
        self.folder = folder
        self.hosts = hosts
        self.launcher = os.path.join(build, "launcher", "launcher")
        self.train_digits = os.path.join(build, "samples", "train_digits")
        self.train_gpt = os.path.join(build, "samples", "train_gpt")
        # Any text that is there on every machine will do.
        self.text = os.path.join(os.path.dirname(os.path.abspath(__file__)), "namespaces.py")
        self.slurm = None
        self.references = {}
        for program in (self.launcher, self.train_digits, self.train_gpt):
            if not os.access(program, os.X_OK):
                raise SystemExit(f"{program} is not there; build first")

    def file(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        path = self.file(name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w",
                  encoding="ascii") as file:
            file.write(text)
        return path

    def token_file(self):
        """A secret for one job, readable by its owner alone."""
        return self.write("token", secrets.token_hex(32) + "\n")

    def digits(self, *options, epochs=3, precision="f32"):
        """f64 where hosts have other numbers of ranks than 1, 2, 4, …, and sums another order: that
        leaves the losses equal to 1e-12 there, while in f32 the network's kinks (ReLU, max pooling)
        make 1e-7 into 1e-2 within a hundred steps, on one rank with another number of threads as
        well as on several."""
        return [self.train_digits, "--epochs", str(epochs), "--seed", "1", "--precision", precision,
                *options]

    def gpt(self, *options, steps=100):
        return [self.train_gpt, "--steps", str(steps), "--seed", "1", *options, self.text]

    def gpt_reference(self, ranks, steps=100):
        """Losses of train_gpt with as many ranks on one host."""
        path = self.file("reference-gpt.json")
        done = run([self.launcher, "-n", str(ranks), *self.gpt("--json", path, steps=steps)],
                   env={"WEFT_NUM_THREADS": "1"})
        check(done.code == 0, "the reference run failed", done)
        return read_json(path)["losses"]

    def reference(self, ranks, epochs=3, precision="f32"):
        """Losses and accuracy of the launcher with as many ranks on one host."""
        key = (ranks, epochs, precision)
        if key not in self.references:
            path = self.file("reference-{}-{}-{}.json".format(*key))
            program = self.digits("--json", path, epochs=epochs, precision=precision)
            done = run([self.launcher, "-n", str(ranks), *program], env={"WEFT_NUM_THREADS": "1"})
            check(done.code == 0, "the reference run failed", done)
            self.references[key] = read_json(path)
        return self.references[key]


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def check_ranks(program, ranks):
    """That training was that of one job with so many ranks, not of several smaller ones."""
    said = [int(count) for count in STEPS.findall(program.out)]
    check(said == [ranks], f"ranks that trained together: {said}, not one job of {ranks}", program)


def accuracy_of(text):
    found = ACCURACY.findall(text)
    if len(found) != 1:
        raise Failure(f"the accuracy was printed {len(found)} times, not once")
    return float(found[0])


def check_losses(losses, expected):
    """The first 10 steps within 1e-5 relative, the first 100 within 2e-4; returns the worst two."""
    check(len(losses) == len(expected), f"{len(losses)} losses, not {len(expected)}")
    if losses == expected:
        return f"all {len(losses)} losses equal to the bit"
    apart = [abs(a - b) / abs(b) for a, b in zip(losses, expected)]
    early, late = max(apart[:10]), max(apart[:100])
    check(early <= 1e-5, f"the first 10 losses are up to {early:.2g} apart (1e-5 allowed)")
    check(late <= 2e-4, f"the first 100 losses are up to {late:.2g} apart (2e-4 allowed)")
    return f"first 10 losses within {early:.1e}, first {min(100, len(apart))} within {late:.1e}"


def check_same_training(context, path, program, ranks, epochs=3, precision="f32"):
    """Holds a run's JSON file, and what rank 0 said through `program`, against the same number of
    ranks under one launcher."""
    check_ranks(program, ranks)
    result, expected = read_json(path), context.reference(ranks, epochs, precision)
    note = check_losses(result["losses"], expected["losses"])
    check(result["accuracy"] == expected["accuracy"],
          f"accuracy {result['accuracy']}, not {expected['accuracy']}")
    os.unlink(path)
    return f"accuracy {result['accuracy']:.4f}, {note}"


def ranks_running(context, variable):
    """The rank processes of train_digits by number, from the variable that numbers them."""
    found = {}
    for pid in pids_of("train_digits"):
        rank = environment_of(pid).get(variable)
        if rank is not None:
            found[int(rank)] = pid
    return found


def kill_rank(context, rank, variable):
    pid = ranks_running(context, variable)[rank]
    os.kill(pid, signal.SIGKILL)
    return pid
