"""Cases and their counts, and programs that cases run and watch."""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback


class Skip(Exception):
    """Ends a case that cannot run here; its text is the reason."""


class Failure(AssertionError):
    """Ends a case; its text says what was expected and what came."""


def check(condition, text, *programs):
    """Fails with the text and what the programs have written."""
    if condition:
        return
    for program in programs:
        text += f"\n--- {program.title}: {program.how()}\n{program.transcript()}"
    raise Failure(text)


class Program:
    """A command that runs beside the case, its output kept."""

    running = []  # those that a case which fails leaves to its runner

    def __init__(self, command, env=None, cwd=None, title=None):
        self.title = title or " ".join(command)[-200:]
        self.began = time.monotonic()
        self.ended = None
        whole = dict(os.environ)
        whole.update(env or {})
        # A session of its own: a signal to its group never meets the case itself.
        self.process = subprocess.Popen(
            command, env=whole, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True)
        self.pid = self.process.pid
        self.changed = threading.Condition()
        self.text = {"out": "", "err": ""}
        self.came = {"out": [], "err": []}  # (seconds, lines before): when what was written
        self.readers = [
            threading.Thread(target=self.read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self.readers:
            reader.start()
        Program.running.append(self)

    def read(self, name, stream):
        while True:
            piece = os.read(stream.fileno(), 65536)
            with self.changed:
                self.came[name].append((time.monotonic() - self.began,
                                        self.text[name].count("\n")))
                self.text[name] += piece.decode(errors="replace")
                self.changed.notify_all()
            if not piece:
                return

    @property
    def out(self):
        return self.text["out"]

    @property
    def err(self):
        return self.text["err"]

    def how(self):
        code = self.process.poll()
        if code is None:
            return "still running"
        ended = f"exit {code}" if code >= 0 else f"killed by signal {-code}"
        return f"{ended} after {(self.ended or time.monotonic()) - self.began:.1f} s"

    def transcript(self):
        def last(name):
            lines = self.text[name].splitlines()
            for seconds, number in self.came[name]:
                if number < len(lines):
                    lines[number] = f"({seconds:5.1f} s) {lines[number]}"
            cut = [f"… {len(lines) - 40} lines more"] if len(lines) > 40 else []
            return "\n".join(cut + lines[-40:])
        return f"stdout:\n{last('out')}\nstderr:\n{last('err')}"

    def wait_for(self, pattern, limit=60.0, times=1, where="out"):
        """Waits until the pattern has come `times` times; returns the matches."""
        until = time.monotonic() + limit
        with self.changed:
            while True:
                found = list(re.finditer(pattern, self.text[where], re.MULTILINE))
                if len(found) >= times:
                    return found
                rest = until - time.monotonic()
                if rest <= 0 or (self.process.poll() is not None and
                                 not any(r.is_alive() for r in self.readers)):
                    break
                self.changed.wait(min(rest, 0.2))
        raise Failure(f"{self.title}: `{pattern}` did not come {times} times on std{where} within "
                      f"{limit} s ({self.how()})\n{self.transcript()}")

    def finish(self, limit=120.0):
        """Waits for its end; one that runs past the limit is a failure."""
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            text = f"{self.title}: did not end within {limit} s\n{self.transcript()}"
            self.kill()
            raise Failure(text) from None
        self.ended = time.monotonic()
        for reader in self.readers:
            reader.join(5)
            check(not reader.is_alive(),
                  f"{self.title}: ended, but somebody still holds its output open", self)
        return self

    @property
    def code(self):
        """Its exit code, 128 + signal where a signal ended it, as a shell has it."""
        code = self.process.returncode
        return 128 - code if code < 0 else code

    @property
    def seconds(self):
        return self.ended - self.began

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """Ends it, with a chance to tidy up: an srun that is killed outright leaves its job."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is not None:
                return
            try:
                os.killpg(self.pid, number)
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                continue


def run(command, limit=120.0, **options):
    """Runs a command to its end."""
    return Program(command, **options).finish(limit)


def processes():
    """All processes of this namespace: pid -> command line."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                if file.read().rsplit(")", 1)[1].split()[0] in "ZX":
                    continue
            with open(f"/proc/{name}/cmdline", "rb") as file:
                found[int(name)] = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it has ended meanwhile
    return found


def pids_of(program_name, parts=()):
    """The pids whose first word ends in the name and whose command line has all the parts."""
    return [pid for pid, line in processes().items()
            if line and os.path.basename(line.split()[0]) == program_name
            and all(part in line for part in parts)]


def environment_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = file.read().split(b"\0")
    return dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)


class Suite:
    """Cases that share a set-up."""

    def __init__(self, name):
        self.name = name
        self.cases = []
        self.before = self.after = None

    def set_up(self, function):
        self.before = function
        return function

    def tear_down(self, function):
        self.after = function
        return function

    def case(self, title):
        def note(function):
            self.cases.append((title, function))
            return function
        return note


class Runner:
    def __init__(self, watched):
        self.watched = watched  # folders in which a case may leave nothing
        self.passed = self.failed = self.skipped = 0

    def left_in_folders(self):
        return {os.path.join(at, name) for folder in self.watched
                for at, _, names in os.walk(folder) for name in names}

    def check_nothing_left(self, before, files):
        """Ended steps may take a moment to be cleared away by their daemons."""
        until = time.monotonic() + 10
        while True:
            left = {pid: line for pid, line in processes().items() if pid not in before}
            litter = self.left_in_folders() - files
            if not left and not litter:
                return
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for path in litter:
            os.unlink(path)
        raise Failure("left behind: " + "; ".join(
            [f"process {pid} ({line})" for pid, line in left.items()] + sorted(litter)))

    def run_case(self, suite, title, function, context):
        name = f"{suite.name}: {title}"
        began = time.monotonic()
        before, files = set(processes()), self.left_in_folders()
        try:
            try:
                note = function(context)
            finally:
                error = sys.exc_info()[0]
                for program in Program.running:
                    program.kill()
                Program.running.clear()
                try:
                    self.check_nothing_left(before, files)
                except Failure as left:
                    if error is None:
                        raise
                    print(f"     {left}", flush=True)
        except Skip as reason:
            self.skipped += 1
            print(f"[weft] skipped: {name}: {reason}", flush=True)
            return
        except Exception as error:
            self.failed += 1
            text = str(error) if isinstance(error, Failure) else traceback.format_exc()
            print(f"FAIL {name} ({time.monotonic() - began:.1f} s)\n{text}\n", flush=True)
            return
        self.passed += 1
        print(f"ok   {name} ({time.monotonic() - began:.1f} s){': ' + note if note else ''}",
              flush=True)

    def run_suite(self, suite, context, wanted):
        cases = [(title, function) for title, function in suite.cases
                 if not wanted or any(word in title for word in wanted)]
        if not cases:
            return
        try:
            if suite.before:
                suite.before(context)
        except Skip as reason:
            self.skipped += len(cases)
            print(f"[weft] skipped: {suite.name}: {reason}", flush=True)
            return
        except Exception:  # counted, with its trace
            self.failed += len(cases)
            print(f"FAIL {suite.name}: could not be set up\n{traceback.format_exc()}", flush=True)
            return
        try:
            for title, function in cases:
                self.run_case(suite, title, function, context)
        finally:
            if suite.after:
                suite.after(context)

    def finish(self):
        print(f"[weft] {self.passed} passed, {self.failed} failed, {self.skipped} skipped",
              flush=True)
        return 1 if self.failed or not self.passed and not self.skipped else 0
