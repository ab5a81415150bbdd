#!/usr/bin/python3
"""Records the pictures of docs/launching.md: each runs real commands in a shell on a terminal of its
own and draws what stands on the screen at the end, as SVG.

    docs/record.py [--build BUILD] [NAME...]       # config, test, run, crash; default: all

Needs python3-pexpect and python3-pyte, and a finished build. Not part of the build: the pictures are
kept in docs/images.
"""
import argparse
import html
import os
import pathlib
import shutil
import tempfile
import time

import pexpect
import pyte

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT = "$ "
COLUMNS, ROWS = 110, 120
CELL_WIDTH, CELL_HEIGHT = 8.4, 18
MARGIN = 14

COLOURS = {
    "default": "#d6deeb", "black": "#5f7282", "red": "#ff6b6b", "green": "#7ddf8a",
    "brown": "#e6c35c", "yellow": "#e6c35c", "blue": "#82aaff", "magenta": "#c792ea",
    "cyan": "#6fd7e8", "white": "#ffffff",
}


class Terminal:
    """A shell whose screen can be read."""

    def __init__(self, build, folder):
        environment = {
            "PATH": f"{build / 'launcher'}:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8",
            "TERM": "xterm-256color", "PS1": PROMPT,
        }
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.shell = pexpect.spawn("bash", ["--norc", "--noprofile", "-i"], env=environment,
                                   cwd=str(folder), dimensions=(ROWS, COLUMNS))
        self.settle()
        self.shell.send("bind 'set enable-bracketed-paste off'\r")
        self.settle()
        self.shell.send("clear\r")
        self.settle()

    def settle(self, quiet=0.4, limit=120.0):
        """Reads until nothing has come for `quiet` seconds."""
        end = time.monotonic() + limit
        last = time.monotonic()
        while time.monotonic() - last < quiet:
            if time.monotonic() > end:
                raise SystemExit("the terminal does not come to rest")
            try:
                self.stream.feed(self.shell.read_nonblocking(65536, timeout=0.1))
                last = time.monotonic()
            except pexpect.TIMEOUT:
                pass

    def at_prompt(self):
        line = self.screen.display[self.screen.cursor.y]
        return line.rstrip() == PROMPT.rstrip() and self.screen.cursor.x == len(PROMPT)

    def run(self, command, answers=(), limit=120.0):
        """Types a command and, whenever it waits, the next answer; until the prompt is back."""
        self.shell.send(command + "\r")
        end = time.monotonic() + limit
        answers = list(answers)
        self.settle()
        while not self.at_prompt():
            if time.monotonic() > end:
                raise SystemExit(f"'{command}' does not end")
            if answers:
                self.shell.send(answers.pop(0))
            self.settle()
        if answers:
            raise SystemExit(f"'{command}' left {len(answers)} answers unread")

    def close(self):
        self.shell.close(force=True)


def rows_of(screen):
    """The used rows, each a list of (column, text, colour, bold)."""
    used = [y for y in range(ROWS) if screen.display[y].strip()]
    last = used[-1] if used else 0
    if screen.display[last].rstrip() == PROMPT.rstrip():
        last -= 1  # the prompt that waits
    rows = []
    for y in range(last + 1):
        runs, row = [], screen.buffer[y]
        for x in range(COLUMNS):
            char = row[x]
            style = (char.fg, char.bold)
            if runs and runs[-1][2] == style and runs[-1][0] + len(runs[-1][1]) == x:
                runs[-1][1] += char.data
            else:
                runs.append([x, char.data, style])
        rows.append([(x, text, *style) for x, text, style in runs if text.strip()])
    return rows


def colour_of(name):
    if name in COLOURS:
        return COLOURS[name]
    if name.startswith("bright"):
        return COLOURS.get(name[len("bright"):], COLOURS["default"])
    return "#" + name  # one of the 256


def draw(rows, title):
    columns = max((x + len(text.rstrip()) for row in rows for x, text, *_ in row), default=1)
    width = round(columns * CELL_WIDTH + 2 * MARGIN)
    height = round(len(rows) * CELL_HEIGHT + 2 * MARGIN)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#10202e"/>',
        '<g font-family="\'DejaVu Sans Mono\',Menlo,Consolas,monospace" font-size="14" '
        f'fill="{COLOURS["default"]}" xml:space="preserve">',
    ]
    for y, row in enumerate(rows):
        baseline = MARGIN + y * CELL_HEIGHT + 13
        for x, text, colour, bold in row:
            stripped = text.rstrip()
            lead = len(stripped) - len(stripped.lstrip())
            stripped = stripped.lstrip()
            style = "" if colour == "default" else f' fill="{colour_of(colour)}"'
            style += ' font-weight="bold"' if bold else ""
            lines.append(
                f'<text x="{MARGIN + (x + lead) * CELL_WIDTH:.1f}" y="{baseline}"'
                f' textLength="{len(stripped) * CELL_WIDTH:.1f}"{style}>{html.escape(stripped)}</text>')
    return "\n".join(lines + ["</g>", "</svg>"]) + "\n"


DOWN, ENTER = "\x1b[B", "\r"


def record_config(terminal, _):
    # Ranks on CPUs, one host, four ranks, the default threads, each on its share of the cores; for the
    # rest Enter takes what is shown.
    terminal.run("launcher config", [ENTER, ENTER, "4" + ENTER, ENTER, DOWN + ENTER] + 6 * [ENTER])
    terminal.run("launcher config show")


def record_test(terminal, _):
    terminal.run("launcher test -n 2")


def record_run(terminal, build):
    terminal.run("launcher -n 2 ./train_digits --epochs 12")


def record_crash(terminal, build):
    terminal.run("launcher -n 4 ./trainee join reduce=12 only=2 segv all forever")
    terminal.run("echo $?")


RECORDINGS = {
    "config": (record_config, "launcher config asks, and writes default_config.yaml"),
    "test": (record_test, "launcher test: one table of checks"),
    "run": (record_run, "a training run on two ranks"),
    "crash": (record_crash, "a rank that crashes: named, with its stack and what followed"),
}


def record(name, build, output):
    function, title = RECORDINGS[name]
    folder = pathlib.Path(tempfile.gettempdir()) / "demo"
    folder.mkdir()
    try:
        for program in ["samples/train_digits", "tests/launcher/trainee"]:
            (folder / pathlib.Path(program).name).symlink_to(build / program)
        terminal = Terminal(build, folder)
        function(terminal, build)
        terminal.close()
    finally:
        shutil.rmtree(folder)
    path = output / f"{name}.svg"
    path.write_text(draw(rows_of(terminal.screen), title), encoding="utf-8")
    print(f"{path}: {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description="Records the pictures of docs/launching.md.")
    parser.add_argument("--build", default=ROOT / "build", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECORDINGS))
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in RECORDINGS:
            parser.error(f"no recording {name}; there are {', '.join(RECORDINGS)}")
    output = ROOT / "docs" / "images"
    output.mkdir(exist_ok=True)
    for name in arguments.names or RECORDINGS:
        record(name, arguments.build.resolve(), output)


if __name__ == "__main__":
    main()
