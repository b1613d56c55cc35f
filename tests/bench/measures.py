"""Single measurements, from the first seat of a setup to the last. Each is bounded in time."""

import functools
import json
import re
import subprocess
import time

from machine import Failure, run

# How often iperf3 is asked: right after a test its server may still be closing the last one, and
# its own connection goes through what is being measured.
TRIES = 3
# For a server to close a test, and for a new one to listen.
TRY_INTERVAL = 0.4
GIB = 1 << 30

TCP_SECONDS = 3
UDP_SECONDS = 1
SMALL_PACKET = 64
# Percent of UDP packets that may be lost for a rate to count.
MOST_LOSS = 1.0
# Up to this loss a rate gets a second chance: a receiver that had to wait for its core.
CHANCE_LOSS = 5.0
# Halvings in the search for the highest rate: the result is found to 1/16 of the limit.
SEARCH_STEPS = 4
PINGS = 1000
PING_INTERVAL = 0.002
# Seconds that all pings together may take longer than their intervals.
PING_SLACK = 6
LOADED_PINGS = 200
LOADED_PING_INTERVAL = 0.01


@functools.lru_cache(maxsize=None)
def congestion_control():
    """The one that all streams use: cubic where the kernel has it, since bbr, a common default,
    measures the path for seconds before it uses it."""
    known = run(["sysctl", "-n", "net.ipv4.tcp_available_congestion_control"]).split()
    return "cubic" if "cubic" in known else run(
        ["sysctl", "-n", "net.ipv4.tcp_congestion_control"]).strip()


def tcp(setup, streams=1):
    """Gbit/s received, and seconds of CPU of all daemons for each GiB of it."""
    before = setup.cpu_seconds()
    received = _iperf(setup, "sum_received", *_tcp_flags(streams))
    used = setup.cpu_seconds() - before
    figures = {"gbps": received["bits_per_second"] / 1e9}
    if setup.processes and received["bytes"] > 0:
        figures["cpu_per_gib"] = used / (received["bytes"] / GIB)
    return figures


def small_packets(setup):
    """Thousands of 64-byte UDP packets per second that arrive: sent without a limit, and at the
    highest rate found that loses less than 1 %."""
    limit, loss = _udp(setup, 0)
    figures = {"limit_kpps": limit / 1e3}
    # Between the shares `low`, which is known to pass, and `high`, which is not.
    low, high = (1.0, 1.0) if loss < MOST_LOSS else (0.0, 1.0)
    if low:
        figures["kpps"] = limit / 1e3
    for _ in range(SEARCH_STEPS if not low else 0):
        share = (low + high) / 2
        arrived, loss = _udp(setup, limit * share)
        if MOST_LOSS <= loss < CHANCE_LOSS:
            arrived, loss = _udp(setup, limit * share)
        if loss < MOST_LOSS:
            low = share
            figures["kpps"] = arrived / 1e3
        else:
            high = share
    return figures


def pings(setup, count=PINGS, interval=PING_INTERVAL):
    """Round trips in microseconds: the median and the 99th of 100; and how many had no answer."""
    try:
        # At 2 ms the next ping waits for the answer of the one before it; hence the deadline.
        said = setup.client.run("ping", "-n", "-c", count, "-i", interval, "-W", 1, "-w",
                                round(count * interval + PING_SLACK), setup.address)
    except Failure as failure:
        # It ends with an error too when not all were sent and answered.
        said = failure.printed
    times = sorted(float(time) * 1e3 for time in re.findall(r" time=([0-9.]+) ms", said))
    sent = re.search(r"(\d+) packets transmitted", said)
    if not times or not sent:
        raise Failure(f"{setup.contender.name}: no ping was answered", said)
    return {
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) * 99 // 100, len(times) - 1)],
        "lost": int(sent[1]) - len(times),
    }


def loaded_pings(setup):
    """As `pings`, while a TCP stream runs."""
    load = setup.client.start("iperf3", *_client_flags(setup, *_tcp_flags(1)))
    # Until the stream is at full speed; its last part is left out likewise.
    time.sleep((TCP_SECONDS - LOADED_PINGS * LOADED_PING_INTERVAL) / 2)
    try:
        return pings(setup, LOADED_PINGS, LOADED_PING_INTERVAL)
    finally:
        try:
            ended = load.popen.wait(TCP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            load.end()
            ended = None
        if ended != 0:
            raise Failure(f"{setup.contender.name}: the load ended early", load.said())


def memory(setup):
    """MiB resident of the largest daemon."""
    resident = setup.resident_mib()
    return {} if resident is None else {"mib": resident}


def _tcp_flags(streams):
    return ["--time", TCP_SECONDS, "--parallel", streams, "--congestion", congestion_control()]


def _client_flags(setup, *flags):
    return ["--client", setup.address, "--connect-timeout", 3000, "--json", *flags]


def _udp(setup, rate):
    """Sends small packets at `rate` per second, 0 for no limit; what arrived per second, and the
    loss in percent."""
    total = _iperf(setup, "sum", "--udp", "--time", UDP_SECONDS, "--length", SMALL_PACKET,
                   "--bitrate", int(rate * SMALL_PACKET * 8))
    sent, lost, seconds = total["packets"], total["lost_packets"], total["seconds"]
    if not sent or not seconds:
        return 0.0, 100.0
    return (sent - lost) / seconds, 100 * lost / sent


def _iperf(setup, section, *flags):
    """What iperf3 reports in that section of one run's end."""
    said = ""
    for number in range(TRIES):
        setup.check()
        if number:
            time.sleep(TRY_INTERVAL)
            setup.serve()
            time.sleep(TRY_INTERVAL)
        try:
            said = setup.client.run("iperf3", *_client_flags(setup, *flags))
        except Failure as failure:
            said = failure.said
            continue
        # A run whose own connection broke ends as if all were well, without a result.
        report = json.loads(said)
        if section in report["end"]:
            return report["end"][section]
        said = report.get("error", "no result")
    raise Failure(f"{setup.contender.name}: iperf3 failed {TRIES} times", said)
