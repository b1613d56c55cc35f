"""Figures as Markdown: median [smallest-largest] over the rounds, ratios, what was to be reached.

A ratio is the median of each round's own ratio: both sides of it met the same load.
"""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One column of figures."""

    row: str
    key: str
    title: str
    lower_is_better: bool = False
    # The row of the bare wire's figure, if it is another: there is no bare line.
    raw_row: str = ""


PAIR = [
    Figure("tcp", "gbps", "TCP, Gbit/s"),
    Figure("tcp", "cpu_per_gib", "CPU s per GiB", True),
    Figure("tcp4", "gbps", "4 streams, Gbit/s"),
    Figure("small", "kpps", "64 B, loss < 1 %, kpps"),
    Figure("small", "limit_kpps", "64 B, no limit, kpps"),
    Figure("ping", "p50", "ping p50, us", True),
    Figure("ping", "p99", "ping p99, us", True),
    Figure("ping", "lost", "pings lost of 1,000", True),
    Figure("ping-loaded", "p50", "ping p50 under TCP, us", True),
    Figure("ping-loaded", "p99", "ping p99 under TCP, us", True),
    Figure("ping-loaded", "lost", "pings lost of 200", True),
    Figure("memory-idle", "mib", "memory idle, MiB", True),
    Figure("memory-tcp", "mib", "memory after TCP, MiB", True),
    Figure("memory-small", "mib", "memory after TCP and 64 B, MiB", True),
]
LINE = [
    Figure("line", "gbps", "line of 3: TCP, Gbit/s", raw_row="tcp"),
    Figure("line", "cpu_per_gib", "line of 3: CPU s per GiB", True),
    Figure("line-ping", "p50", "line of 3: ping p50, us", True, raw_row="ping"),
    Figure("line-ping", "p99", "line of 3: ping p99, us", True, raw_row="ping"),
    Figure("line-small", "kpps", "line of 3: 64 B, loss < 1 %, kpps", raw_row="small"),
    Figure("line-small", "limit_kpps", "line of 3: 64 B, no limit, kpps", raw_row="small"),
]
ALONE = [
    Figure("no-uso", "gbps", "TCP without UDP segmentation, Gbit/s"),
    Figure("no-uso", "cpu_per_gib", "CPU s per GiB without UDP segmentation", True),
    Figure("relay", "k1_kpps", "relay on one core to 1, kpps"),
    Figure("relay", "k4_kpps", "relay on one core to 4, kpps sent"),
    Figure("diamond", "sent", "diamond: sent"),
    Figure("diamond", "lost", "diamond: lost", True),
    Figure("diamond", "longest_gap_ms", "diamond: longest gap, ms", True),
]

BEST = "the best peer"


@dataclass(frozen=True)
class Target:
    """What a figure of floodmesh, or its ratio to another's, is to be."""

    title: str
    row: str
    key: str
    # A contender, the best peer, or nothing: the figure itself counts.
    against: str
    must: float
    goal: float
    lower_is_better: bool = False
    contender: str = "floodmesh"


TARGETS = [
    Target("TCP, 1 stream", "tcp", "gbps", "naive", 2.2, 3),
    Target("TCP, 1 stream", "tcp", "gbps", BEST, 2.5, 3.5),
    Target("TCP, 4 streams", "tcp4", "gbps", BEST, 2.5, 4),
    Target("CPU s per GiB", "tcp", "cpu_per_gib", "", 2.2, 1.2, True),
    Target("64 B under 1 % loss", "small", "kpps", BEST, 1, 1.5),
    Target("ping p50, idle", "ping", "p50", BEST, 1, 0.8, True),
    Target("ping p99, idle", "ping", "p99", BEST, 1, 0.8, True),
    Target("ping p50 under TCP, us", "ping-loaded", "p50", "", 1000, 500, True),
    Target("TAP, TCP", "tcp", "gbps", "floodmesh", 0.8, 0.9, contender="tap"),
    Target("line of 3, TCP", "line", "gbps", BEST, 2, 3),
    Target("relay to 1", "relay", "k1_kpps", "sendto", 2, 2.5),
    Target("relay to 4", "relay", "k4_kpps", "sendto", 2, 2.5),
    Target("TCP without UDP segmentation", "no-uso", "gbps", "naive", 1.4, 1.6),
    Target("memory, idle, MiB", "memory-idle", "mib", "", 20, 12, True),
    Target("memory after TCP, MiB", "memory-tcp", "mib", "", 48, 32, True),
    Target("memory after TCP and 64 B, MiB", "memory-small", "mib", "", 48, 32, True),
    Target("diamond, packets lost", "diamond", "lost", "", 0, 0, True),
]


class Results:
    """All figures, by row, key, contender and round."""

    def __init__(self, titles, peers):
        """`titles` of contenders by their names, in order; `peers` are names."""
        self.titles = titles
        self.peers = peers
        self.values = {}

    def add(self, number, row, contender, figures):
        for key, value in figures.items():
            self.values.setdefault((row, key, contender), {})[number] = value

    def of(self, row, key, contender):
        """The values in the order of rounds."""
        return list(self.values.get((row, key, contender), {}).values())

    def ratios(self, row, key, contender, other, other_row=None):
        """Each round's own ratio, to the other's figure of the same row or of `other_row`."""
        mine = self.values.get((row, key, contender), {})
        theirs = self.values.get((other_row or row, key, other), {})
        return [mine[number] / theirs[number] for number in mine if theirs.get(number)]

    def best_peer(self, row, key, lower_is_better):
        """The peer with the best median; none when none was measured."""
        medians = [(median(values), peer) for peer in self.peers
                   if (values := self.of(row, key, peer))]
        if not medians:
            return None
        return (min if lower_is_better else max)(medians)[1]

    def as_records(self):
        """For programs."""
        return [{"row": row, "figure": key, "contender": contender, "round": number, "value": value}
                for (row, key, contender), values in self.values.items()
                for number, value in values.items()]


def tables(results):
    """All tables for which there are figures."""
    parts = [_figures(results, PAIR), _figures(results, LINE), _figures(results, ALONE),
             _comparison(results), _targets(results)]
    return "\n\n".join(part for part in parts if part)


def _figures(results, figures):
    """One line for each contender."""
    figures = [figure for figure in figures
               if any(results.of(figure.row, figure.key, name) for name in results.titles)]
    lines = []
    for name, title in results.titles.items():
        cells = [_cell(results.of(figure.row, figure.key, name)) for figure in figures]
        if any(cell != "-" for cell in cells):
            lines.append([title, *cells])
    return _markdown(["", *(figure.title for figure in figures)], lines)


def _comparison(results):
    """Floodmesh against raw, naive and the best peer, a line for each figure."""
    lines = []
    for figure in PAIR + LINE + ALONE:
        mine = results.of(figure.row, figure.key, "floodmesh")
        peer = results.best_peer(figure.row, figure.key, figure.lower_is_better)
        ratios = [_cell(results.ratios(figure.row, figure.key, "floodmesh", other, row))
                  for other, row in (("raw", figure.raw_row), ("naive", None), (peer, None))]
        if mine and any(ratio != "-" for ratio in ratios):
            theirs = _cell(results.of(figure.row, figure.key, peer))
            lines.append([figure.title, _cell(mine), *ratios[:2],
                          f"{results.titles[peer]}: {theirs}" if peer else "-", ratios[2]])
    return _markdown(["", "floodmesh", "x raw", "x naive", BEST, "x best"], lines)


def _targets(results):
    lines = []
    for target in TARGETS:
        other = target.against
        if other == BEST:
            other = results.best_peer(target.row, target.key, target.lower_is_better)
        if target.against:
            values = results.ratios(target.row, target.key, target.contender, other)
        else:
            values = results.of(target.row, target.key, target.contender)
        if values:
            against = f" against {results.titles[other]}" if other else ""
            lines.append([target.title + against, _cell(values), _number(target.must),
                          _number(target.goal), _verdict(target, median(values))])
    return _markdown(["target", "measured", "must", "goal", "reached"], lines)


def _verdict(target, value):
    sign = -1 if target.lower_is_better else 1
    if sign * value >= sign * target.goal:
        return "goal"
    return "must" if sign * value >= sign * target.must else "**no**"


def _markdown(head, lines):
    if not lines:
        return ""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    rows = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
            for line in [head, *lines]]
    return "\n".join([rows[0], "|---" * len(head) + "|", *rows[1:]])


def _cell(values):
    if not values:
        return "-"
    text = _number(median(values))
    if len(values) > 1:
        text += f" [{_number(min(values))}-{_number(max(values))}]"
    return text


def _number(value):
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
