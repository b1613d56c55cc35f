"""Commands: one JSON object per line, as the README lists them."""

import json

from endpoint import Endpoint, parse_endpoint
from node import Node, name
from packet import ALL_NODES, ANY_NODE, DATA, GOODBYE, HELLO, INFORM, PING, emit_inform

KINDS = {"hello": HELLO, "goodbye": GOODBYE, "ping": PING, "inform": INFORM, "data": DATA}
DEFAULT_DST = {"hello": ANY_NODE, "goodbye": ALL_NODES}


class Quit(Exception):
    """The node shall end; `silent` is true if it shall not say Goodbye."""

    def __init__(self, silent: bool) -> None:
        super().__init__("quit")
        self.silent = silent


def run_command(node: Node, line: bytes) -> None:
    """Carries out one line; a bad one becomes an `error` event. Errors: Quit."""
    try:
        command = json.loads(line)
        if not isinstance(command, dict):
            raise ValueError("a command is a JSON object")
        if command.get("quit"):
            raise Quit(bool(command.get("silent")))
        if command.get("show"):
            neighbors = {name(netid): str(endpoint) for netid, endpoint in node.neighbors.items()}
            node.report({"event": "state", "neighbors": neighbors, "seen": len(node.seen)})
        else:
            send(node, command)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        node.report({"event": "error", "reason": reason, "line": line[:200].decode(errors="replace")})


def send(node: Node, command: dict) -> None:
    what = command["send"]
    to = parse_endpoint(command["to"]) if "to" in command else None
    if what == "raw":
        if to is None:
            raise ValueError("raw needs a 'to'")
        # Not remembered as ours: if it comes back, it is judged like anything from the wire.
        node.transmit(to, bytes.fromhex(command["hex"]), "raw")
        return
    flags = number(command.get("flags"), node.options.link_flags if what in ("hello", "inform") else 0, 0xFF)
    nonce = number(command.get("nonce"), None, 0xFFFFFFFF)
    if what == "hello" and to is None:
        raise ValueError("hello needs a 'to'")
    body = bytes.fromhex(command.get("payload", ""))
    if what == "inform":
        subject: Endpoint = parse_endpoint(command["endpoint"])
        body = emit_inform(number(command["netid"], None, 0xFFFFFFFF), subject)
    if "dst" not in command and what not in DEFAULT_DST:
        raise ValueError(f"{what} needs a 'dst'")
    dst = number(command.get("dst"), DEFAULT_DST.get(what), 0xFFFFFFFF)
    node.originate(KINDS[what], dst, body, flags, to, nonce)


def number(text: str | None, default: int | None, limit: int) -> int | None:
    """Hex text to a number, so that a netid reads the same in commands and events."""
    if text is None:
        return default
    value = int(text, 16)
    if not 0 <= value <= limit:
        raise ValueError(f"{text} is not within 0..{limit:x}")
    return value
