"""A cable with faults: a host's frames pass through this process, which delays them, swaps, loses,
repeats or damages some, or lets none through in one direction. The kernel's own means for this
(netem) are missing on many machines.

It stands where a veth pair would: one end is the host's eth0, the other a port of the bridge, both
TAP devices. What a fault does to TCP is what a real network's does, retransmission included.
"""
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
LARGEST_FRAME = 65536


def open_tap(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


class Wire:
    """Frames from `ends[0]` (the host) to `ends[1]` (the switch) and back. Attributes may be set at
    any time: they hold for the frames that come then."""

    def __init__(self, host_end, switch_end, seed=1):
        self.ends = (open_tap(host_end), open_tap(switch_end))
        self.random = random.Random(seed)
        self.delay = 0.0    # seconds, of every frame
        self.jitter = 0.0   # up to so many more; without `reorder`, frames keep their order
        self.reorder = False
        self.loss = 0.0     # the part of frames that do not arrive
        self.repeat = 0.0   # and of those that arrive twice
        self.damage = 0.0   # and of those that arrive with one bit flipped
        self.stalled = set()  # directions, 0: from the host, 1: to it
        self.passed = self.harmed = 0
        self.waiting = []   # (due, number, end, frame)
        self.number = 0
        self.last_due = [0.0, 0.0]
        self.stop_read, self.stop_write = os.pipe2(os.O_CLOEXEC)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def close(self):
        os.write(self.stop_write, b"x")
        self.thread.join()
        for fd in (*self.ends, self.stop_read, self.stop_write):
            os.close(fd)

    def run(self):
        while True:
            rest = max(0.0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            ready, _, _ = select.select([*self.ends, self.stop_read], [], [], rest)
            if self.stop_read in ready:
                return
            for direction, fd in enumerate(self.ends):
                if fd in ready:
                    self.take(direction, fd)
            self.deliver()

    def take(self, direction, fd):
        for _ in range(64):  # then the other direction has its turn
            try:
                frame = os.read(fd, LARGEST_FRAME)
            except BlockingIOError:
                return
            self.plan(direction, frame)

    def plan(self, direction, frame):
        chance = self.random.random
        if direction in self.stalled or chance() < self.loss:
            self.harmed += 1
            return
        if chance() < self.damage:
            # Behind the addresses: so that it arrives where checksums are looked at.
            at = self.random.randrange(14, len(frame))
            flipped = frame[at] ^ 1 << self.random.randrange(8)
            frame = frame[:at] + bytes([flipped]) + frame[at + 1:]
            self.harmed += 1
        for _ in range(2 if chance() < self.repeat else 1):
            due = time.monotonic() + self.delay + self.jitter * chance()
            if not self.reorder:
                due = max(due, self.last_due[direction])
            self.last_due[direction] = due
            self.number += 1
            heapq.heappush(self.waiting, (due, self.number, self.ends[1 - direction], frame))

    def deliver(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, _, fd, frame = heapq.heappop(self.waiting)
            try:
                os.write(fd, frame)
                self.passed += 1
            except OSError:
                self.harmed += 1  # the other end is down or full: lost, as on any wire
