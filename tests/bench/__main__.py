"""floodmesh, the bare wire and other mesh daemons, measured against each other in namespaces.

    python3 tests/bench --rounds 3
    python3 tests/bench --rounds 1 --only tcp,ping --contenders raw,floodmesh,wireguard-go

In each round every contender gets fresh daemons, and each row is measured for all contenders one
after the other, so that other load on the machine meets all alike. Needs root, iproute2, iperf3 and
ping; installs nothing. Peers that are not installed are named and left out. Everything runs in
namespaces of its own, which go at the end with all that runs in them, however the end comes. Ends
with 1 when something of floodmesh could not be measured; what a target says decides nothing.

| file | what |
|---|---|
| `machine` | namespaces, wires, processes |
| `contender`, `floodmesh`, `peers` | what is measured, and how it is started |
| `measures`, `relay` | single measurements |
| `load`, `bound`, `sendto_relay.rs` | programs that `relay` runs |
| `rows`, `rounds` | which measurements there are, and their order |
| `table` | figures as Markdown, and the targets |
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import floodmesh
import peers
import rows
from contender import Raw
from machine import Failure, Machine, say
from rounds import Bench

ROOT = Path(__file__).resolve().parent.parent.parent
# Seconds for everything; a round that would take longer is not begun.
BUDGET = 900


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
        sys.exit(bench.exit_code)
    except Failure as failure:
        sys.exit(f"bench: {failure}" + (f"\n{failure.said}" if failure.said else ""))
    except KeyboardInterrupt:
        sys.exit(130)


def _options():
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds [default: 3]")
    parser.add_argument("--binary", type=Path, metavar="FILE",
                        help="measure this floodmesh instead of building one")
    parser.add_argument("--only", type=_names, default=[], metavar="ROWS",
                        help="measure these rows alone, of "
                             + ",".join(row.name for row in rows.ROWS))
    parser.add_argument("--contenders", type=_names, default=[], metavar="NAMES",
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


def _names(text):
    return [name for name in text.split(",") if name]


def _check_machine():
    programs = ("ip", "iperf3", "ping", "sysctl")
    missing = [program for program in programs if not shutil.which(program)]
    if os.geteuid() != 0:
        missing.append("root, for namespaces and devices")
    if not Path("/dev/net/tun").exists():
        missing.append("/dev/net/tun")
    if missing:
        raise Failure(f"missing: {', '.join(missing)} "
                      "(apt-get install iproute2 iperf3 iputils-ping procps)")


def _binary(given):
    """The floodmesh to measure, built if none is given."""
    if given:
        if not os.access(given, os.X_OK):
            raise Failure(f"{given} is no program")
        return given.resolve()
    say("building floodmesh")
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
            say(f"left out, needs {' and '.join(row.needs)}: {row.name}")
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
            say(f"left out, not installed: {one.name} ({one.install})")
    return [one for one in wanted if not one.missing()]


if __name__ == "__main__":
    main()
