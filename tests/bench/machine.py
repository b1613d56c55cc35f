"""Network namespaces, the wires between them and the processes in them; all of it goes at the end.

What is started here dies with this program, even when that is killed; namespaces and files that a
killed run left behind are removed by the next one.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PREFIX = "fmbench"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
WIRE_MTU = 1500
# How long a process may take to end when asked.
PATIENCE = 3.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Failure(Exception):
    """Something could not be done: one line for people, what the program in question said, and what
    it printed as its result all the same."""

    def __init__(self, text, said="", printed=""):
        super().__init__(text)
        self.said = said.strip()
        self.printed = printed


class Process:
    """A process that is ended with the machine."""

    def __init__(self, name, popen, log):
        self.name = name
        self.popen = popen
        self.log = log

    def is_running(self):
        return self.popen.poll() is None

    def cpu_seconds(self):
        """CPU used so far, of all threads, in user and system mode."""
        stat = Path(f"/proc/{self.popen.pid}/stat").read_text()
        # The name in brackets may hold spaces. After it, user and system time are words 12 and 13.
        words = stat.rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / TICKS_PER_SECOND

    def resident_mib(self):
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise Failure(f"{self.name} has no memory")

    def said(self):
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def end(self):
        for ask in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_running():
                return
            self.popen.send_signal(ask)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(PATIENCE)


class Node:
    """One namespace."""

    def __init__(self, machine, name):
        self.machine = machine
        self.name = name
        self.namespace = f"{PREFIX}-{os.getpid()}-{name}"
        # The names of its ends of wires.
        self.wires = []

    def command(self, *words):
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def run(self, *words, timeout=20):
        """Runs a command to its end and returns what it printed."""
        return run(self.command(*words), timeout)

    def start(self, *words, core=None, environment=None):
        """Starts a process that is ended with the machine, on one core alone if so asked."""
        name = f"{self.name}-{Path(str(words[0])).name}"
        log = self.machine.directory / f"{name}.log"

        def before():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if core is not None:
                os.sched_setaffinity(0, {core})

        with log.open("w") as output:
            # `ip netns exec` becomes the command, so that the number is the command's own. A
            # session of its own keeps Ctrl-C from it: it is ended in order.
            popen = subprocess.Popen(
                self.command(*words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before,
                env={**os.environ, **(environment or {})},
            )
        process = Process(name, popen, log)
        self.machine.processes.append(process)
        return process

    def ip(self, *words):
        return run(["ip", "-n", self.namespace, *map(str, words)])


class Machine:
    """Everything that one run makes outside this program. Use it in a `with`."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-"))
        self.processes = []
        self.nodes = []
        self.wires = 0

    def __enter__(self):
        _remove_stale()
        return self

    def __exit__(self, *_):
        self.clear()
        shutil.rmtree(self.directory, ignore_errors=True)

    def clear(self):
        """Ends all processes, the last first, and removes all namespaces and files."""
        for process in reversed(self.processes):
            process.popen.terminate()
        for process in reversed(self.processes):
            process.end()
        self.processes.clear()
        for node in self.nodes:
            subprocess.run(["ip", "netns", "del", node.namespace], stderr=subprocess.DEVNULL)
        self.nodes.clear()
        for entry in self.directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def add_node(self, name):
        node = Node(self, name)
        run(["ip", "netns", "add", node.namespace])
        self.nodes.append(node)
        node.ip("link", "set", "lo", "up")
        return node

    def add_wire(self, one, other, network):
        """Lays a veth between two nodes: NETWORK.1 at `one`, NETWORK.2 at `other`."""
        self.wires += 1
        name = f"wire{self.wires}"
        one.ip("link", "add", name, "mtu", WIRE_MTU, "type", "veth",
               "peer", "name", name, "mtu", WIRE_MTU, "netns", other.namespace)
        for number, node in enumerate((one, other), start=1):
            node.ip("address", "add", f"{network}.{number}/30", "dev", name)
            node.ip("link", "set", name, "up")
            node.wires.append(name)


def run(command, timeout=20):
    """Runs a command to its end and returns what it printed."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise Failure(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(command)} took more than {timeout} s") from error
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} failed", done.stderr + done.stdout[-500:],
                      done.stdout)
    return done.stdout


def say(text):
    """Tells people how far it is."""
    print(text, file=sys.stderr, flush=True)


def wait_until(is_so, seconds, interval=0.05):
    """Looks until it is so; returns whether it became so in time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(interval)
    return True


def _remove_stale():
    """Removes namespaces and files of runs that no longer exist."""
    for line in run(["ip", "netns", "list"]).splitlines():
        if _is_stale(line.split()[0]):
            run(["ip", "netns", "del", line.split()[0]])
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if _is_stale(directory.name):
            shutil.rmtree(directory, ignore_errors=True)


def _is_stale(name):
    """Whether the process whose number is in the name has ended."""
    words = name.split("-")
    return words[0] == PREFIX and words[1:2] != [] and not Path(f"/proc/{words[1]}").exists()
