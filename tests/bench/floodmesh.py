"""Our own daemon, in the manners that are compared."""

from contender import Contender
from machine import Failure, wait_until

READY_SECONDS = 10.0


class Floodmesh(Contender):
    """The relay in the middle of a line has no device, as a relay would."""

    def __init__(self, binary, name, title, *flags, rows=None):
        self.binary = binary
        self.name = name
        self.title = title
        self.flags = flags
        self.rows = rows
        self.version = (binary, "--version")

    def start(self, seats):
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

    def _up(self, seat, flags):
        return seat.node.start(
            self.binary, "up", "--plain", "--name", seat.node.name, "--netid", f"{seat.number:x}",
            "--listen", "0.0.0.0:44204", "--log", "warn", "--state-dir", seat.directory() / "state",
            "--control", seat.file("control"), *flags)


def variants(binary):
    """Ours, and those that show what one property is worth."""
    return [
        Floodmesh(binary, "floodmesh", "floodmesh"),
        Floodmesh(binary, "naive", "naive (`--offload off --batch 1`)", "--offload", "off",
                  "--batch", "1"),
        Floodmesh(binary, "tap", "floodmesh TAP", "--mode", "tap", rows=("ping", "tcp")),
    ]


def is_ready(process):
    return not process.is_running() or "\nready:" in "\n" + process.log.read_text()
