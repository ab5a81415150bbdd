"""Hosts that are namespaces: each has a network, an address and a host name of its own, and all
meet at one bridge. They share the processes' namespace (who is left behind shows in one /proc) and
the file system.

The process that uses this module runs in fresh mount, process, network and UTS namespaces (see the
script `run`); what is set up here ends with it.
"""
import os
import subprocess
import time

from harness import Skip
from wire import Wire

NETWORK = "10.77.0."
NETWORK6 = "fd77::"
SWITCH = 254  # this process's own host number: "n0"


def sh(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def address(k):
    return NETWORK + str(k if k else SWITCH)


def address6(k):
    return NETWORK6 + format(k if k else SWITCH, "x")


class Hosts:
    """Hosts n1 to n<count>; this process is n0, on the same network."""

    def __init__(self, count, folder):
        self.count = count
        self.holders = {}
        self.private_files(folder)
        sh("hostname", "n0")
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "br0", "type", "bridge")
        sh("ip", "addr", "add", address(0) + "/24", "dev", "br0")
        sh("ip", "-6", "addr", "add", address6(0) + "/64", "dev", "br0", "nodad")
        sh("ip", "link", "set", "br0", "up")
        for k in range(1, count + 1):
            self.add(k)

    def private_files(self, folder):
        """A hosts file, a /run and a /dev/shm of our own, seen in these namespaces alone."""
        names = "127.0.0.1 localhost\n::1 localhost\n" + "".join(
            f"{address(k)} n{k}\n{address6(k)} n{k}-6\n" for k in range(self.count + 1)
        )
        path = os.path.join(folder, "hosts")
        with open(path, "w", encoding="ascii") as file:
            file.write(names)
        sh("mount", "--make-rprivate", "/")
        sh("mount", "--bind", path, "/etc/hosts")
        for place in ("/run", "/dev/shm"):
            sh("mount", "-t", "tmpfs", "-o", "mode=1777" if "shm" in place else "mode=755", "tmpfs",
               place)

    def add(self, k):
        holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", f"hostname n{k} && echo up && exec sleep inf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert holder.stdout.readline() == b"up\n"
        self.holders[k] = holder
        sh(*self.on(k), "ip", "link", "set", "lo", "up")
        self.put_cable(k)

    def put_cable(self, k):
        sh("ip", "link", "add", f"veth{k}", "type", "veth", "peer", "name", "eth0", "netns",
           str(self.holders[k].pid))
        self.bring_up(k, f"veth{k}")

    def bring_up(self, k, port):
        sh("ip", "link", "set", port, "master", "br0", "up")
        for command in (
            ["addr", "add", address(k) + "/24", "dev", "eth0"],
            # No duplicate address detection: it would hold the address back for a second.
            ["-6", "addr", "add", address6(k) + "/64", "dev", "eth0", "nodad"],
            ["link", "set", "eth0", "up"],
        ):
            sh(*self.on(k), "ip", *command)

    def on(self, k):
        """What stands before a command that is to run on host k."""
        if not k:
            return []
        return ["nsenter", "--net", "--uts", "--target", str(self.holders[k].pid), "--"]

    def link(self, k, state):
        """Pulls the cable of host k, or puts it back: state "down" or "up". It is the switch's end
        that goes down, so that the host keeps its address and its connections stay half open."""
        sh("ip", "link", "set", f"veth{k}", state)

    def put_wire(self, k, seed):
        """Replaces host k's cable by one with faults, which has none yet; see wire.py."""
        if not os.path.exists("/dev/net/tun"):
            raise Skip("there is no /dev/net/tun; run: modprobe tun")
        sh("ip", "link", "del", f"veth{k}")  # and its other end
        wire = Wire(f"host{k}", f"wire{k}", seed)
        sh("ip", "link", "set", f"host{k}", "netns", str(self.holders[k].pid))
        sh(*self.on(k), "ip", "link", "set", f"host{k}", "name", "eth0")
        self.bring_up(k, f"wire{k}")
        return wire

    def remove_wire(self, k, wire):
        wire.close()  # both devices go with it
        self.put_cable(k)

    def unplug(self, k):
        """Takes host k's own interface down: its kernel knows, and its routes are gone."""
        sh(*self.on(k), "ip", "link", "set", "eth0", "down")

    def replug(self, k):
        sh(*self.on(k), "ip", "link", "set", "eth0", "up")
        # Taking the interface down has removed the IPv6 address.
        subprocess.run([*self.on(k), "ip", "-6", "addr", "add", address6(k) + "/64", "dev", "eth0",
                        "nodad"], check=False, stderr=subprocess.DEVNULL)

    def reaches(self, source, target, port, limit=5.0):
        """Whether `source` can connect to a listening port of `target`, tried until the limit."""
        program = (f"import socket; socket.create_connection(('{address(target)}', {port}), 1)"
                   ".close()")
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if subprocess.run([*self.on(source), "python3", "-c", program],
                              stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return True
            time.sleep(0.05)
        return False
