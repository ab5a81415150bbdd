"""Counts the doctest cases of one run of `meson test`.

counts.py LOG LIST: LOG is meson's JSON log, LIST what `meson test --list` printed for the same
suites. Prints "passed failed skipped". A binary that crashed, ran out of time, printed no count or
did not run at all counts as one failed case more, and stderr says which.
"""
import json
import re
import sys

COUNT = re.compile(r"^\[weft\] (\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)
SKIPPED = re.compile(r"^\[weft\] skipped: (.*)$", re.MULTILINE)


def short(name):
    """`weft:fast / core` in the list and in the log: the part that names the test."""
    return name.split(" / ", 1)[-1].strip()


def read_log(path):
    try:
        with open(path, encoding="utf-8") as log:
            return [json.loads(line) for line in log if line.strip()]
    except FileNotFoundError:
        return []


def main(log_path, list_path):
    total = [0, 0, 0]
    seen = set()
    for test in read_log(log_path):
        name = short(test["name"])
        seen.add(name)
        output = test.get("stdout") or ""
        lines = COUNT.findall(output)
        counts = [int(n) for n in lines[-1]] if lines else [0, 0, 0]
        if test["result"] != "OK" and counts[1] == 0:
            print(f"{name}: {test['result']}, exit {test['returncode']}", file=sys.stderr)
            counts[1] += 1
        elif not lines:
            print(f"{name}: printed no count of its cases", file=sys.stderr)
            counts[1] += 1
        for reason in SKIPPED.findall(output):
            print(f"skipped: {reason}", file=sys.stderr)
        total = [a + b for a, b in zip(total, counts)]
    with open(list_path, encoding="utf-8") as names:
        for name in map(short, names):
            if name and name not in seen:
                print(f"{name}: did not run", file=sys.stderr)
                total[1] += 1
    print(*total)


main(*sys.argv[1:])
