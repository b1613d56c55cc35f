"""The rounds of one run: all contenders of a row one after the other, all rows, and that again."""

import json
import os
import time
from pathlib import Path

import measures
import table
from contender import MTU, Setup
from machine import Failure, run, say

# To start and end one contender's daemons.
START_SECONDS = 0.7


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
        # 1 when something of floodmesh could not be measured.
        self.exit_code = 0
        self.started = time.monotonic()

    def run(self, machine):
        """Measures all rounds that the budget allows, then prints; also when it is interrupted."""
        expected, done = self._expected(), 0
        say(f"{len(self.rows)} rows, {len(self.contenders)} contenders, {self.rounds} rounds of "
            f"about {expected:.0f} s")
        try:
            for number in range(1, self.rounds + 1):
                began = self._elapsed()
                if number > 1 and began + expected > self.budget:
                    say(f"{done} of {self.rounds} rounds: another would take too long")
                    break
                self._round(machine, number)
                done = number
                once = sum(row.seconds for row in self.rows if row.once) if number == 1 else 0
                expected = self._elapsed() - began - once
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
                    say(f"out of time before {row.name}")
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
            self._try(number, kind, contender, lambda: setups.append(
                Setup(machine, contender, shape, index)))
        return [setup for setup in setups
                if self._try(number, kind, setup.contender, setup.await_path)]

    def _row(self, machine, number, row, setups):
        taking = [setup for setup in setups if row.takes(setup.contender)]
        whom = f", {len(taking)} contenders" if row.shape else ""
        seconds = row.seconds * (len(taking) if row.shape else 1)
        self._announce(number, f"{row.name}: {row.what}{whom}", seconds)
        if not row.shape:
            def measure():
                for contender, figures in row.measure(machine, self.binary).items():
                    self.results.add(number, row.name, contender, figures)
            self._try(number, row.name, None, measure)
        for setup in taking:
            def measure():
                figures = row.measure(setup)
                self.results.add(number, row.name, setup.contender.name, figures)
            self._try(number, row.name, setup.contender, measure)

    def _try(self, number, what, contender, action):
        """Does it; a failure is noted and told, and costs no other contender anything."""
        try:
            action()
        except Failure as failure:
            text = f"round {number}, {what}: {failure}"
            self.failures.append(text)
            say(text + (f"\n{failure.said}" if failure.said else ""))
            if contender is None or not contender.is_peer:
                self.exit_code = 1
            return False
        return True

    def _announce(self, number, what, seconds):
        load = Path("/proc/loadavg").read_text().split()[0]
        say(f"[{self._elapsed():4.0f} s] round {number} of {self.rounds}: {what}, about "
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
        machine = f"{_describe_machine()}\n{', '.join(version for version in versions if version)}"
        print(machine)
        print(f"{done} of {self.rounds} rounds; median [smallest-largest]; a ratio is the median "
              "of each round's own")
        print(f"TCP with {measures.congestion_control()}; devices of MTU {MTU}\n")
        print(table.tables(self.results))
        for text in self.failures:
            print(f"\nnot measured: {text}")
        if self.file:
            self.file.write_text(json.dumps(
                {"machine": machine, "rounds": done, "failures": self.failures,
                 "figures": self.results.as_records()}, indent=1) + "\n")


def _describe_machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else os.uname().machine
    return (f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, "
            f"{' '.join(run(['iperf3', '--version']).split()[:2])}")
