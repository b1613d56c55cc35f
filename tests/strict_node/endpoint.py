"""UDP endpoints: one address and one port, with IPv4-mapped addresses folded to IPv4."""

import ipaddress
import socket
from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address as text in canonical form, a port, and the scope of a link-local address (else 0)."""

    host: str
    port: int
    scope: int = 0

    def __str__(self) -> str:
        if ":" not in self.host:
            return f"{self.host}:{self.port}"
        scope = f"%{self.scope}" if self.scope else ""
        return f"[{self.host}{scope}]:{self.port}"

    @property
    def address(self):
        return ipaddress.ip_address(self.host)


def from_address(address, port: int, scope: int = 0) -> Endpoint:
    mapped = getattr(address, "ipv4_mapped", None)
    return Endpoint(str(mapped or address), port, scope)


def from_sockaddr(sockaddr: tuple) -> Endpoint:
    host = sockaddr[0].split("%", 1)[0]
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    return from_address(ipaddress.ip_address(host), sockaddr[1], scope)


def to_sockaddr(endpoint: Endpoint, family: int) -> tuple:
    if family == socket.AF_INET:
        return (endpoint.host, endpoint.port)
    host = endpoint.host if ":" in endpoint.host else f"::ffff:{endpoint.host}"
    return (host, endpoint.port, 0, endpoint.scope)


def parse_endpoint(text: str) -> Endpoint:
    """Reads `192.0.2.1:4242`, `[2001:db8::1]:4242` or `[fe80::1%3]:4242`. Errors: ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 0xFFFF:
        raise ValueError(f"{text!r} is not ADDR:PORT")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r}: write an IPv6 address in brackets")
    host, _, scope = host.strip("[]").partition("%")
    if scope and not scope.isdecimal():
        raise ValueError(f"{text!r}: the scope is an interface index")
    return from_address(ipaddress.ip_address(host), int(port), int(scope or 0))
