"""Training over hosts that are network namespaces (see hosts.py): one launcher on each, or ranks
started by hand; cables pulled, launchers killed, hosts that come late, never, or twice."""
import signal
import time

from harness import Program, Suite, check, run
from hosts import address, address6
from training import check_losses, check_same_training, kill_rank, ranks_running, read_json

PORT = 29500

suite = Suite("namespaces")


class Launchers:
    """`launcher --nnodes N` on hosts n1 to n<N>, with one secret; node k runs on n<k+1>."""

    def __init__(self, context, nodes, per_node=2, endpoint=None, options=()):
        self.context = context
        self.nodes = nodes
        self.per_node = per_node
        self.endpoint = endpoint or f"{address(1)}:{PORT}"
        self.options = list(options)
        self.token = context.token_file()
        self.programs = {}

    def start(self, node, program, rank=None, nodes=None, env=None, host=None):
        host = node + 1 if host is None else host
        command = [*self.context.hosts.on(host), self.context.launcher, "--nnodes",
                   str(nodes or self.nodes), "--node_rank", str(node if rank is None else rank),
                   "--rdzv_endpoint", self.endpoint, "-n", str(self.per_node), *self.options,
                   *program]
        # One thread a rank, as the reference has: threads divide sums too.
        whole = {"WEFT_TOKEN_FILE": self.token, "WEFT_NUM_THREADS": "1", **(env or {})}
        launched = Program(command, env=whole, title=f"launcher of node {node}")
        self.programs[node] = launched
        return launched

    def start_all(self, program, **options):
        for node in range(self.nodes):
            self.start(node, program, **options)
        return list(self.programs.values())

    def until_training(self):
        """Waits until rank 0 has said that it trains."""
        self.programs[0].wait_for(r"step +[0-9]+", limit=60)

    def finish(self, limit=120):
        for program in self.programs.values():
            program.finish(limit)
        return [self.programs[node] for node in sorted(self.programs)]

    def check_all_failed(self, began, within):
        """All have ended within so many seconds of `began`, each with an error and few words."""
        programs = self.finish(within + 20)
        took = max(program.ended for program in programs) - began
        check(took <= within, f"took {took:.1f} s, not {within}", *programs)
        for program in programs:
            if program.process.returncode == -signal.SIGKILL:
                continue  # the case's own doing
            check(program.code not in (0, -1), f"{program.title} says all is well", *programs)
            # The lines of ranks are "[0] …" and copies of their last ones are indented.
            own = [line for line in program.err.splitlines() if not line.startswith(("[", "  "))]
            check(1 <= len(own) <= 8, f"{program.title}: {len(own)} lines of its own", *programs)
        return took


def by_hand(context, per_node, program):
    """Ranks started without any launcher, as torchrun's variables have it."""
    env = {"WORLD_SIZE": str(sum(per_node)), "MASTER_ADDR": address(1), "MASTER_PORT": str(PORT),
           "GROUP_WORLD_SIZE": str(len(per_node)), "WEFT_TOKEN_FILE": context.token_file(),
           "WEFT_NUM_THREADS": "1"}
    programs = []
    for node, count in enumerate(per_node):
        for local in range(count):
            rank = len(programs)
            programs.append(Program(
                [*context.hosts.on(node + 1), *program], title=f"rank {rank}",
                env={**env, "RANK": str(rank), "LOCAL_RANK": str(local),
                     "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": str(node)}))
    return programs


@suite.case("three hosts reach each other, by IPv4 and IPv6")
def reach(context):
    server = Program([*context.hosts.on(1), "python3", "-c",
                      "import socket; s = socket.create_server(('::', 7), family=socket.AF_INET6,"
                      " dualstack_ipv6=True); print('up', flush=True)\nfor _ in range(4): s.accept()"])
    server.wait_for("up")
    for host in (2, 3):
        for where in (address(1), address6(1)):
            done = run([*context.hosts.on(host), "python3", "-c",
                        f"import socket; socket.create_connection(('{where}', 7), 5)"])
            check(done.code == 0, f"n{host} does not reach {where}", done)
    server.finish(10)


@suite.case("ranks by hand on two hosts")
def two_by_hand(context):
    return trained_by_hand(context, [2, 2])


@suite.case("ranks by hand on three hosts, one, two and three of them")
def three_by_hand(context):
    return trained_by_hand(context, [1, 2, 3])


def trained_by_hand(context, per_node):
    path = context.file("by_hand.json")
    precision = "f32" if len(set(per_node)) == 1 else "f64"
    programs = by_hand(context, per_node, context.digits("--json", path, precision=precision))
    for program in programs:
        program.finish(120)
    check(all(p.code == 0 for p in programs), "training failed", *programs)
    return check_same_training(context, path, programs[0], sum(per_node), precision=precision)


@suite.case("three hosts of two ranks have the losses of six ranks on one")
def three_by_two(context):
    path = context.file("six.json")
    launchers = Launchers(context, 3)
    notes = []
    for name, program, expected in (
        ("digits", context.digits("--json", path), context.reference(6)["losses"]),
        ("gpt", context.gpt("--json", path), context.gpt_reference(6)),
    ):
        launchers.start_all(program)
        programs = launchers.finish()
        check(all(p.code == 0 for p in programs), "training failed", *programs)
        losses = read_json(path)["losses"]
        check(losses == expected, f"{name}: not equal to the bit")
        notes.append(f"{name}: {check_losses(losses, expected)}")
    return "; ".join(notes)


@suite.case("two hosts meet at an IPv6 address")
def ipv6(context):
    path = context.file("six.json")
    launchers = Launchers(context, 2, endpoint=f"[{address6(1)}]:{PORT}")
    launchers.start_all(context.digits("--json", path))
    programs = launchers.finish()
    check(all(p.code == 0 for p in programs), "training failed", *programs)
    return check_same_training(context, path, programs[0], 4)


@suite.case("two jobs at once on the same hosts, on ports of their own")
def two_jobs(context):
    paths = [context.file(f"job{k}.json") for k in range(2)]
    jobs = [Launchers(context, 2, per_node=1, endpoint=f"{address(1)}:{PORT + k}")
            for k in range(2)]
    for job, path in zip(jobs, paths):
        job.start_all(context.digits("--json", path))
    notes = []
    for job, path in zip(jobs, paths):
        programs = job.finish()
        check(all(p.code == 0 for p in programs), "training failed", *programs)
        notes.append(check_same_training(context, path, programs[0], 2))
    return "; ".join(notes)


@suite.case("kill -9 of a rank ends all three hosts, and all name it")
def kill_one(context):
    launchers = Launchers(context, 3)
    programs = launchers.start_all(context.digits(epochs=10000))
    launchers.until_training()
    pid = kill_rank(context, 3, "RANK")
    took = launchers.check_all_failed(time.monotonic(), 12)
    for program in programs:
        check(program.code == 137, f"{program.title}: exit code {program.code}, not 137", *programs)
        check("rank 3" in program.err and "SIGKILL" in program.err,
              f"{program.title} does not name rank 3 (pid {pid})", *programs)
    return f"ended {took:.1f} s after the kill"


@suite.case("F06 a cable pulled for ever ends every host with one report within 15 s")
def link_down(context):
    launchers = Launchers(context, 3)
    programs = launchers.start_all(context.digits(epochs=10000))
    launchers.until_training()
    context.hosts.link(2, "down")
    try:
        took = launchers.check_all_failed(time.monotonic(), 15)
    finally:
        context.hosts.link(2, "up")
    return f"ended after {took:.1f} s; " + first_words(programs)


@suite.case("F06 an interface taken down for ever ends every host within 15 s")
def interface_down(context):
    launchers = Launchers(context, 3)
    programs = launchers.start_all(context.digits(epochs=10000))
    launchers.until_training()
    context.hosts.unplug(3)
    try:
        took = launchers.check_all_failed(time.monotonic(), 15)
    finally:
        context.hosts.replug(3)
    return f"ended after {took:.1f} s; " + first_words(programs)


@suite.case("F06 node 0's cable pulled for ever ends every host within 15 s")
def link_of_first_down(context):
    launchers = Launchers(context, 3)
    programs = launchers.start_all(context.digits(epochs=10000))
    launchers.until_training()
    context.hosts.link(1, "down")
    try:
        took = launchers.check_all_failed(time.monotonic(), 15)
    finally:
        context.hosts.link(1, "up")
    return f"ended after {took:.1f} s; " + first_words(programs)


@suite.case("F06 a cable pulled for 5 s: training goes on, with the same losses")
def link_down_and_up(context):
    path = context.file("pulled.json")
    epochs = 10
    context.reference(4, epochs)
    launchers = Launchers(context, 2)
    programs = launchers.start_all(context.digits("--json", path, epochs=epochs))
    launchers.until_training()
    context.hosts.link(2, "down")
    try:
        time.sleep(5)  # the fault's own length, nobody waits for it
        check(all(p.process.poll() is None for p in programs), "somebody gave up", *programs)
    finally:
        context.hosts.link(2, "up")
    launchers.finish()
    check(all(p.code == 0 for p in programs), "training failed", *programs)
    return check_same_training(context, path, programs[0], 4, epochs)


def first_words(programs):
    """What each launcher says first, for the record."""
    words = []
    for program in programs:
        own = [line for line in program.err.splitlines() if not line.startswith(("[", "  "))]
        words.append(f"{program.title}: `{own[0] if own else ''}` (exit {program.code})")
    return "; ".join(words)


def trained_over(context, epochs=3, options=(), **faults):
    """Two hosts, the second behind a wire with faults: the same losses as without."""
    path = context.file("wire.json")
    context.reference(4, epochs)
    wire = context.hosts.put_wire(2, seed=7)
    try:
        for name, value in faults.items():
            setattr(wire, name, value)
        launchers = Launchers(context, 2, options=options)
        launchers.start_all(context.digits("--json", path, epochs=epochs))
        programs = launchers.finish()
        check(all(p.code == 0 for p in programs), "training failed", *programs)
        check(wire.passed > 100, "nothing went over the wire", *programs)
        return (f"{programs[0].seconds:.1f} s, {wire.passed} frames, {wire.harmed} of them harmed; "
                + check_same_training(context, path, programs[0], 4, epochs))
    finally:
        context.hosts.remove_wire(2, wire)


@suite.case("F07 gloo and store over a wire with a delay of 50 ms and jitter")
def delayed(context):
    return trained_over(context, epochs=1, delay=0.05, jitter=0.01)


@suite.case("F07 gloo and store over a wire that swaps, loses, repeats and damages frames")
def harmed(context):
    return trained_over(context, reorder=True, jitter=0.002, loss=0.005, repeat=0.01, damage=0.005)


@suite.case("F07 a wire that lets nothing through in one direction ends all hosts")
def stalled(context):
    notes = []
    for direction, name in ((0, "from node 1"), (1, "to node 1")):
        wire = context.hosts.put_wire(2, seed=7)
        try:
            launchers = Launchers(context, 2)
            programs = launchers.start_all(context.digits(epochs=10000))
            launchers.until_training()
            wire.stalled = {direction}
            took = launchers.check_all_failed(time.monotonic(), 15)
            notes.append(f"{name}: {took:.1f} s; {first_words(programs)}")
        finally:
            context.hosts.remove_wire(2, wire)
    return "; ".join(notes)


@suite.case("F09 node 0's launcher killed before the others have met")
def killed_before(context):
    launchers = Launchers(context, 3)
    first = launchers.start(0, context.digits())
    second = launchers.start(1, context.digits())
    joined(launchers, [0, 1])
    began = time.monotonic()
    first.signal(signal.SIGKILL)
    took = launchers.check_all_failed(began, 10)
    return f"node 1 ended after {took:.1f} s; " + first_words([second])


@suite.case("F09 node 0's launcher killed while training: the others end within 10 s")
def killed_after(context):
    launchers = Launchers(context, 3)
    programs = launchers.start_all(context.digits(epochs=10000))
    launchers.until_training()
    began = time.monotonic()
    programs[0].signal(signal.SIGKILL)
    took = launchers.check_all_failed(began, 10)
    return f"ended after {took:.1f} s; " + first_words(programs[1:])


@suite.case("F09 another launcher killed while training: the others end within 10 s")
def other_killed(context):
    launchers = Launchers(context, 3)
    programs = launchers.start_all(context.digits(epochs=10000))
    launchers.until_training()
    began = time.monotonic()
    programs[2].signal(signal.SIGKILL)
    took = launchers.check_all_failed(began, 10)
    return f"ended after {took:.1f} s; " + first_words(programs[:2])


def joined(launchers, nodes):
    """Waits until node 0's launcher says that these nodes have joined: a connection is not enough,
    as one that is lost before that is tried again, like any before node 0 is there."""
    names = ".*".join(f"node {node} " for node in nodes)
    launchers.programs[0].wait_for(f"waiting for all hosts; joined: {names}", where="err")


@suite.case("F18 a host that comes late is waited for")
def late(context):
    path = context.file("late.json")
    launchers = Launchers(context, 2)
    # The other side first: node 1 has to wait for node 0 to listen at all.
    launchers.start(1, context.digits("--json", path))
    time.sleep(2)  # the lateness itself
    launchers.start(0, context.digits("--json", path))
    programs = launchers.finish()
    check(all(p.code == 0 for p in programs), "training failed", *programs)
    return check_same_training(context, path, programs[0], 4)


@suite.case("F18 a host that never comes is named within the join timeout")
def never(context):
    launchers = Launchers(context, 3, options=["--join_timeout", "4"])
    launchers.start(0, context.digits())
    launchers.start(1, context.digits())
    took = launchers.check_all_failed(time.monotonic(), 8)
    programs = list(launchers.programs.values())
    for program in programs:
        check("node 2" in program.err, f"{program.title} does not name node 2", *programs)
    return f"after {took:.1f} s; " + first_words(programs)


@suite.case("F18 a node rank given twice is refused by name, the job goes on")
def twice(context):
    path = context.file("twice.json")
    launchers = Launchers(context, 3)
    program = context.digits("--json", path)
    launchers.start(0, program)
    launchers.start(1, program)
    joined(launchers, [0, 1])
    double = launchers.start("again", program, rank=1, host=3)
    double.finish(20)
    check(double.code not in (0, 137) and "node rank 1" in double.err, "not refused by name", double)
    del launchers.programs["again"]
    launchers.start(2, program)
    programs = launchers.finish()
    check(all(p.code == 0 for p in programs), "training failed", *programs)
    return first_words([double]) + "; " + check_same_training(context, path, programs[0], 6)


@suite.case("F18 a host with another number of hosts is refused by name")
def wrong_world(context):
    launchers = Launchers(context, 3, options=["--join_timeout", "6"])
    program = context.digits()
    launchers.start(0, program)
    wrong = launchers.start(1, program, nodes=2)
    wrong.finish(20)
    check(wrong.code not in (0, 137) and "--nnodes" in wrong.err, "not refused by name", wrong)
    launchers.finish(20)
    return first_words([wrong])


@suite.case("a host with another secret is refused, and says so")
def wrong_secret(context):
    launchers = Launchers(context, 2, options=["--join_timeout", "6"])
    program = context.digits()
    launchers.start(0, program)
    wrong = launchers.start(1, program, env={
        "WEFT_TOKEN_FILE": context.write("other-token", "a secret of another job altogether\n")})
    wrong.finish(20)
    check(wrong.code not in (0, 137), "not refused", wrong)
    launchers.finish(20)
    return first_words([wrong])


@suite.case("F16 an endpoint whose name does not resolve is an error that says so")
def no_such_host(context):
    launchers = Launchers(context, 2, endpoint=f"no-such-host.invalid:{PORT}",
                          options=["--join_timeout", "6"])
    programs = launchers.start_all(context.digits())
    launchers.finish(20)
    for program in programs:
        check(program.code != 0 and "no-such-host.invalid" in program.err, "not said", program)
    return first_words(programs)


@suite.case("launcher test passes on two hosts, each with its own launcher")
def self_test(context):
    launchers = Launchers(context, 2)
    for node in range(2):
        command = [*context.hosts.on(node + 1), context.launcher, "test", "--nnodes", "2",
                   "--node_rank", str(node), "--rdzv_endpoint", launchers.endpoint, "-n", "2",
                   "--check_limit", "60"]
        launchers.programs[node] = Program(command, env={"WEFT_TOKEN_FILE": launchers.token},
                                           title=f"launcher test on node {node}")
    programs = launchers.finish()
    for program in programs:
        check(program.code == 0, f"exit code {program.code}", program)
        check("4 ranks, 2 of them on this host" in program.out, "not four ranks", program)
    return programs[0].out.splitlines()[-1]
