"""floodmesh, the bare wire and other mesh daemons, measured against each other in network namespaces.

    python3 tests/bench --rounds 3
    python3 tests/bench --rounds 1 --only tcp,ping --contenders raw,floodmesh,wireguard-go

In each round every contender gets fresh daemons, and each row is measured for all contenders one
after the other, so that other load on the machine meets all alike. Needs root, iproute2, iperf3 and
ping; installs nothing. Peers that are not installed are named and left out. Everything runs in
namespaces of its own, which go at the end with all that runs in them, however the end comes.

| file | what |
|---|---|
| `machine` | namespaces, wires, processes |
| `contender`, `floodmesh`, `peers` | what is measured, and how it is started |
| `measures`, `relay` | single measurements |
| `rows` | which measurements there are |
| `table` | figures as Markdown, and the targets |
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True

import floodmesh
import measures
import peers
import rows
import table
from contender import Raw, Setup
from machine import Failure, Machine, run

ROOT = Path(__file__).resolve().parent.parent.parent
# Seconds for everything; a round that would take longer is not begun.
BUDGET = 900
# To start and end one contender's daemons.
START_SECONDS = 1.2


def main():
    options = _options()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    os.environ["LC_ALL"] = "C"
    # Both leave through every `with` and `finally`, whatever the shell has set.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        _check_machine()
        chosen = _rows(options.only)
        binary = _binary(options.binary)
        contenders = _contenders(binary, options)
        bench = Bench(binary, contenders, chosen, options)
        with Machine() as machine:
            bench.run(machine)
    except Failure as failure:
        sys.exit(f"bench: {failure}" + (f"\n{failure.said}" if failure.said else ""))
    except KeyboardInterrupt:
        sys.exit(130)


class Bench:
    """The rounds of one run."""

    def __init__(self, binary, contenders, chosen, options):
        self.binary = binary
        self.contenders = contenders
        self.rows = chosen
        self.rounds = options.rounds
        self.budget = options.budget
        self.file = options.json
        titles = {contender.name: contender.title for contender in contenders}
        titles["sendto"] = "plain sendto relay"
        self.results = table.Results(titles, [one.name for one in contenders if one.is_peer])
        self.failures = []
        self.started = time.monotonic()

    def run(self, machine):
        """Measures all rounds that the budget allows, then prints; also when it is interrupted."""
        expected, done = self._expected(), 0
        _say(f"{len(self.rows)} rows, {len(self.contenders)} contenders, {self.rounds} rounds of "
             f"about {expected:.0f} s")
        try:
            for number in range(1, self.rounds + 1):
                began = self._elapsed()
                if number > 1 and began + expected > self.budget:
                    _say(f"{done} of {self.rounds} rounds: another would take too long")
                    break
                self._round(machine, number)
                done = number
                expected = max(self._elapsed() - began, expected if number > 1 else 0)
        finally:
            self._print(done)

    def _round(self, machine, number):
        for shape in (2, 3, 0):
            todo = [row for row in self.rows
                    if row.shape == shape and (number == 1 or not row.once)]
            if not todo:
                continue
            setups = self._start(machine, number, shape, todo) if shape else []
            for row in todo:
                if self._elapsed() > self.budget:
                    _say(f"out of time before {row.name}")
                    break
                self._row(machine, number, row, setups)
            machine.clear()

    def _start(self, machine, number, shape, todo):
        """Starts all contenders that any of the rows takes."""
        taking = [one for one in self.contenders if any(row.takes(one) for row in todo)]
        kind = "pairs" if shape == 2 else f"lines of {shape}"
        self._announce(number, f"starting {len(taking)} {kind}", START_SECONDS * len(taking))
        setups = []
        for contender in taking:
            index = self.contenders.index(contender) + 1
            self._try(number, f"{kind}, {contender.name}", lambda: setups.append(
                Setup(machine, contender, shape, index)))
        return [setup for setup in setups
                if self._try(number, f"{kind}, {setup.contender.name}", setup.await_path)]

    def _row(self, machine, number, row, setups):
        taking = [setup for setup in setups if row.takes(setup.contender)]
        whom = f", {len(taking)} contenders" if row.shape else ""
        self._announce(number, f"{row.name}: {row.what}{whom}", row.seconds * max(len(taking), 1))
        if not row.shape:
            def measure():
                for contender, figures in row.measure(machine, self.binary).items():
                    self.results.add(number, row.name, contender, figures)
            self._try(number, row.name, measure)
        for setup in taking:
            def measure():
                figures = row.measure(setup)
                self.results.add(number, row.name, setup.contender.name, figures)
            self._try(number, f"{row.name}, {setup.contender.name}", measure)

    def _try(self, number, what, action):
        """Does it; a failure is noted and told, and costs no other contender anything."""
        try:
            action()
        except Failure as failure:
            text = f"round {number}, {what}: {failure}"
            self.failures.append(text)
            _say(text + (f"\n{failure.said}" if failure.said else ""))
            return False
        return True

    def _announce(self, number, what, seconds):
        load = Path("/proc/loadavg").read_text().split()[0]
        _say(f"[{self._elapsed():4.0f} s] round {number} of {self.rounds}: {what}, about "
             f"{seconds:.0f} s (load {load})")

    def _elapsed(self):
        return time.monotonic() - self.started

    def _expected(self):
        """Seconds of the first round."""
        seconds = 0.0
        for shape in (2, 3, 0):
            todo = [row for row in self.rows if row.shape == shape]
            for one in self.contenders if shape else ():
                taken = [row for row in todo if row.takes(one)]
                seconds += sum(row.seconds for row in taken) + (START_SECONDS if taken else 0)
            if not shape:
                seconds += sum(row.seconds for row in todo)
        return seconds

    def _print(self, done):
        versions = dict.fromkeys(one.version_line() for one in self.contenders)
        machine = f"{_machine_line()}\n{', '.join(version for version in versions if version)}"
        print(machine)
        print(f"{done} of {self.rounds} rounds; median [smallest-largest]; ratios are the median of "
              f"each round's own; TCP with {measures.congestion_control()}, devices of MTU 1400\n")
        print(table.tables(self.results))
        for text in self.failures:
            print(f"\nnot measured: {text}")
        if self.file:
            self.file.write_text(json.dumps(
                {"machine": machine, "rounds": done, "failures": self.failures,
                 "figures": self.results.as_records()}, indent=1) + "\n")


def _options():
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__.split("\n\n")[0])
    names = lambda text: [name for name in text.split(",") if name]
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds [default: 3]")
    parser.add_argument("--binary", type=Path, metavar="FILE",
                        help="measure this floodmesh instead of building one")
    parser.add_argument("--only", type=names, default=[], metavar="ROWS",
                        help=f"measure these rows alone, of {','.join(row.name for row in rows.ROWS)}")
    parser.add_argument("--contenders", type=names, default=[], metavar="NAMES",
                        help="measure these alone, of raw,floodmesh,naive,tap,"
                             + ",".join(peer.name for peer in peers.all_peers()))
    parser.add_argument("--wireguard-go", type=Path, metavar="FILE",
                        help="measure this one too, as wireguard-go-2: many distributions have one "
                             "from before it had offload, which came in 2023")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS",
                        help=f"begin no round that would end later [default: {BUDGET}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds needs a number from 1")
    return options


def _check_machine():
    missing = [program for program in ("ip", "iperf3", "ping", "sysctl") if not shutil.which(program)]
    if os.geteuid() != 0:
        missing.append("root, for namespaces and devices")
    if not Path("/dev/net/tun").exists():
        missing.append("/dev/net/tun")
    if missing:
        raise Failure(f"missing: {', '.join(missing)} (Debian: iproute2 iperf3 iputils-ping procps)")


def _binary(given):
    """The floodmesh to measure, built if none is given."""
    if given:
        if not os.access(given, os.X_OK):
            raise Failure(f"{given} is no program")
        return given.resolve()
    _say("building floodmesh")
    if subprocess.run(["cargo", "build", "--release", "--locked", "-p", "floodmesh"],
                      cwd=ROOT, check=False).returncode != 0:
        raise Failure("floodmesh cannot be built")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "floodmesh"


def _rows(names):
    """Those that can be measured here; those that cannot are named."""
    chosen = rows.chosen(names)
    able = [row for row in chosen if all(shutil.which(program) for program in row.needs)]
    for row in chosen:
        if row not in able:
            _say(f"left out, needs {' and '.join(row.needs)}: {row.name}")
    return able


def _contenders(binary, options):
    """Those that can run here; those that cannot are named."""
    names = options.contenders
    known = [Raw(), *floodmesh.variants(binary), *peers.all_peers(options.wireguard_go)]
    unknown = [name for name in names if name not in [one.name for one in known]]
    if unknown:
        raise Failure(f"no such contender: {', '.join(unknown)}")
    wanted = [one for one in known if not names or one.name in names]
    for one in wanted:
        if one.missing():
            _say(f"left out, not installed: {one.name} ({one.install})")
    return [one for one in wanted if not one.missing()]


def _machine_line():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), os.uname().machine)
    return (f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, "
            f"{' '.join(run(['iperf3', '--version']).split()[:2])}")


def _say(text):
    print(text, file=sys.stderr, flush=True)


main()
