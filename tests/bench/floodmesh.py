"""Our own daemon, in the manners that are compared."""

from contender import Contender
from machine import Failure, wait_until

READY_SECONDS = 10.0
# What a seal costs shows in a pair, and where it is opened and made again on the way.
SEALED_ROWS = ("ping", "tcp", "tcp4", "ping-loaded", "small", "line", "line-ping")


class Floodmesh(Contender):
    """The relay in the middle of a line has no device, as a relay would."""

    def __init__(self, binary, name, title, *flags, rows=None, sealed=False):
        self.binary = binary
        self.name = name
        self.title = title
        self.flags = flags
        self.rows = rows
        # Whether its nodes are members of a mesh of their own, rather than open to everyone.
        self.sealed = sealed
        self.version = (binary, "--version")

    def start(self, seats):
        if self.sealed:
            self._make_keys(seats)
        middle = len(seats) // 2 + 1
        processes = []
        for seat in seats:
            flags = list(self.flags)
            if len(seats) > 2 and seat.number == middle:
                flags += ["--mode", "none"]
            else:
                flags += ["--dev", "mesh0", "--address", f"{seat.address}/24"]
            # Each names those before it, and the last of a line the one before it.
            if seat.number > 1:
                before = seats[seat.number - 2]
                flags += ["--peer", before.toward[seat.number]]
            processes.append(self._up(seat, flags))
        for process in processes:
            if not wait_until(lambda: is_ready(process), READY_SECONDS):
                raise Failure(f"{process.name} is not ready", process.said())
        return processes

    def _make_keys(self, seats):
        token = seats[0].file("token")
        token.touch(mode=0o600)
        for seat in seats:
            files = ["--name", seat.node.name, "--state-dir", seat.directory() / "state",
                     "--config", seat.file("toml")]
            if seat is seats[0]:
                seat.node.run(self.binary, "init", *files)
                token.write_text(seat.node.run(
                    self.binary, "invite", "--address", "192.0.2.1", *files))
            else:
                seat.node.run(self.binary, "join", "--file", token, *files)

    def _up(self, seat, flags):
        if not self.sealed:
            flags = ["--plain", *flags]
        return seat.node.start(
            self.binary, "up", "--name", seat.node.name, "--netid", f"{seat.number:x}",
            "--listen", "0.0.0.0:44204", "--log", "warn", "--state-dir", seat.directory() / "state",
            "--control", seat.file("control"), *flags)


def variants(binary):
    """Ours, and those that show what one property is worth."""
    return [
        Floodmesh(binary, "floodmesh", "floodmesh"),
        Floodmesh(binary, "naive", "naive (`--offload off --batch 1`)", "--offload", "off",
                  "--batch", "1"),
        # With its own MTU, 1360, which leaves room for both seals.
        Floodmesh(binary, "sealed", "floodmesh, sealed", sealed=True, rows=SEALED_ROWS),
        Floodmesh(binary, "tap", "floodmesh TAP", "--mode", "tap", rows=("ping", "tcp")),
    ]


def is_ready(process):
    return not process.is_running() or "\nready:" in "\n" + process.log.read_text()
