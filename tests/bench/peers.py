"""Other projects' daemons, each set up as its manual says, with keys made for this run.

All have a device of the same MTU. None is changed for speed but where its title says so.
"""

import os
from pathlib import Path

from contender import MTU, Contender
from machine import Failure, run, wait_until

PORT = 5555
# For a daemon's device or control socket to appear.
READY_SECONDS = 10.0


class Peer(Contender):
    is_peer = True

    def address_device(self, seat, process):
        """Waits for the device and gives it its address."""
        node, device = seat.node, seat.device()

        def is_decided():
            return _has_device(node, device) or not process.is_running()

        if not wait_until(is_decided, READY_SECONDS) or not process.is_running():
            raise Failure(f"{process.name} made no device", process.said())
        node.ip("address", "replace", f"{seat.address}/24", "dev", device)
        node.ip("link", "set", device, "mtu", MTU, "up")


def _has_device(node, device):
    try:
        node.ip("link", "show", "dev", device)
    except Failure:
        return False
    return True


def _neighbors(seats, seat):
    """The seats that this one is wired to, each with its address on that wire."""
    near = [other for other in seats if abs(other.number - seat.number) == 1]
    return [(other, other.toward[seat.number]) for other in near]


class WireguardGo(Peer):
    """A line is plain IP routing through the node in the middle."""

    install = "apt-get install wireguard-go wireguard-tools"

    def __init__(self, name, title, program="wireguard-go"):
        self.name = name
        self.title = title
        self.program = program
        self.needs = (program, "wg")
        self.version = (program, "--version")

    def start(self, seats):
        keys = {seat.number: self._keys(seat) for seat in seats}
        processes = []
        for seat in seats:
            process = seat.node.start(self.program, "--foreground", seat.device(),
                                      environment={"LOG_LEVEL": "error"})
            processes.append(process)
            self.address_device(seat, process)
            control = Path(f"/var/run/wireguard/{seat.device()}.sock")
            if not wait_until(control.exists, READY_SECONDS):
                raise Failure(f"{process.name} cannot be configured", process.said())
            words = ["private-key", seat.file("key"), "listen-port", PORT]
            for other, address in _neighbors(seats, seat):
                # Behind a neighbor are the seats on its side.
                behind = [far.address for far in seats
                          if (far.number < seat.number) == (other.number < seat.number)
                          and far.number != seat.number]
                words += ["peer", keys[other.number], "endpoint", f"{address}:{PORT}",
                          "allowed-ips", ",".join(f"{one}/32" for one in behind)]
            seat.node.run("wg", "set", seat.device(), *words)
            seat.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        return processes

    @staticmethod
    def _keys(seat):
        """Makes a key; returns its public half."""
        private = run(["wg", "genkey"])
        _write_secret(seat.file("key"), private)
        return run(["sh", "-c", f"wg pubkey < {seat.file('key')}"]).strip()


class Tinc(Peer):
    """tinc 1.0. In a line it relays by itself."""

    needs = ("tincd", "openssl")
    install = "apt-get install tinc openssl"
    version = ("tincd", "--version")

    def __init__(self, name, title, *options):
        self.name = name
        self.title = title
        self.options = options

    def start(self, seats):
        keys = {seat.number: self._key(seat) for seat in seats}
        processes = []
        for seat in seats:
            directory = seat.directory()
            (directory / "hosts").mkdir(exist_ok=True)
            dials = [f"ConnectTo = seat{other.number}" for other, _ in _neighbors(seats, seat)
                     if other.number < seat.number]
            lines = [f"Name = seat{seat.number}", "AddressFamily = ipv4", f"Port = {PORT}",
                     f"Interface = {seat.device()}", f"PrivateKeyFile = {seat.file('key')}", *dials]
            (directory / "tinc.conf").write_text("\n".join(lines) + "\n")
            for other in seats:
                lines = [f"Subnet = {other.address}/32", f"Port = {PORT}", *self.options]
                lines += [f"Address = {address}" for near, address in _neighbors(seats, seat)
                          if near is other]
                host = directory / "hosts" / f"seat{other.number}"
                host.write_text("\n".join(lines) + "\n" + keys[other.number])
            process = seat.node.start("tincd", "--config", directory, "--no-detach", "--pidfile",
                                      seat.file("pid"))
            processes.append(process)
            self.address_device(seat, process)
        return processes

    @staticmethod
    def _key(seat):
        """Makes a key; returns its public half."""
        run(["openssl", "genrsa", "-traditional", "-out", seat.file("key"), "2048"])
        os.chmod(seat.file("key"), 0o600)
        return run(["openssl", "rsa", "-in", seat.file("key"), "-RSAPublicKey_out"])


class Fastd(Peer):
    """A pair is TUN devices; a line is TAP devices and `forward`: fastd's TUN has one peer."""

    needs = ("fastd",)
    install = "apt-get install fastd"
    version = ("fastd", "--version")

    def __init__(self, name, title, method):
        self.name = name
        self.title = title
        self.method = method

    def start(self, seats):
        keys = {seat.number: self._keys() for seat in seats}
        processes = []
        for seat in seats:
            lines = ["log level warn;", f'interface "{seat.device()}";',
                     f"mode {'tun' if len(seats) == 2 else 'tap'};", f'method "{self.method}";',
                     f"mtu {MTU};", f"bind 0.0.0.0:{PORT};", "forward yes;",
                     f'secret "{keys[seat.number][0]}";']
            for other, address in _neighbors(seats, seat):
                lines.append(f'peer "seat{other.number}" {{ key "{keys[other.number][1]}"; '
                             f"remote {address}:{PORT}; }}")
            _write_secret(seat.file("fastd.conf"), "\n".join(lines) + "\n")
            process = seat.node.start("fastd", "--config", seat.file("fastd.conf"))
            processes.append(process)
            self.address_device(seat, process)
        return processes

    @staticmethod
    def _keys():
        """A secret and the public key that belongs to it."""
        said = run(["fastd", "--generate-key"]).splitlines()
        return [line.split()[1] for line in said if line.startswith(("Secret:", "Public:"))]


class Nebula(Peer):
    """In a line the seat in the middle is a relay (nebula 1.6 and later)."""

    name = "nebula"
    title = "nebula"
    needs = ("nebula", "nebula-cert")
    install = "apt-get install nebula"
    version = ("sh", "-c", "echo nebula $(nebula -version)")

    def start(self, seats):
        authority = seats[0].directory()
        run(["nebula-cert", "ca", "-name", "bench", "-out-crt", authority / "ca.crt",
             "-out-key", authority / "ca.key"])
        processes = []
        for seat in seats:
            run(["nebula-cert", "sign", "-ca-crt", authority / "ca.crt",
                 "-ca-key", authority / "ca.key", "-name", f"seat{seat.number}",
                 "-ip", f"{seat.address}/24", "-out-crt", seat.file("crt"),
                 "-out-key", seat.file("key")])
            seat.file("config.yml").write_text(self._config(seats, seat, authority))
            processes.append(seat.node.start("nebula", "-config", seat.file("config.yml")))
        for seat, process in zip(seats, processes):
            self.address_device(seat, process)
        return processes

    @staticmethod
    def _config(seats, seat, authority):
        middle = seats[len(seats) // 2] if len(seats) > 2 else None
        known = "".join(f'  "{other.address}": ["{address}:{PORT}"]\n'
                        for other, address in _neighbors(seats, seat))
        relays = "[]" if middle in (None, seat) else f'["{middle.address}"]'
        hosts = "[]" if middle in (None, seat) else f'["{middle.address}"]'
        return f"""\
pki: {{ca: {authority}/ca.crt, cert: {seat.file("crt")}, key: {seat.file("key")}}}
static_host_map:
{known}lighthouse: {{am_lighthouse: {str(seat is middle).lower()}, hosts: {hosts}}}
relay: {{am_relay: {str(seat is middle).lower()}, use_relays: true, relays: {relays}}}
listen: {{host: 0.0.0.0, port: {PORT}}}
tun: {{dev: {seat.device()}, mtu: {MTU}}}
logging: {{level: error}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""


class Vpncloud(Peer):
    """It does not relay."""

    name = "vpncloud"
    title = "vpncloud"
    needs = ("vpncloud",)
    install = "cargo install vpncloud"
    version = ("vpncloud", "--version")

    def start(self, seats):
        processes = []
        for seat in seats:
            dials = [word for other, address in _neighbors(seats, seat)
                     for word in ("--peer", f"{address}:{PORT}")]
            # It ends where it has no way to the Internet; nothing is sent there.
            seat.node.ip("route", "add", "default", "via", _neighbors(seats, seat)[0][1])
            process = seat.node.start(
                "vpncloud", "--quiet", "--no-port-forwarding", "--type", "tun", "--mode", "router",
                "--device", seat.device(), "--listen", f"0.0.0.0:{PORT}", "--password", "bench",
                "--claim", f"{seat.address}/32", "--ip", f"{seat.address}/24", *dials)
            processes.append(process)
            self.address_device(seat, process)
        return processes


def all_peers(wireguard_go=None):
    """Every daemon that this program knows, whether it is installed or not; and this other build of
    wireguard-go, if one is given."""
    given = [WireguardGo("wireguard-go-2", "wireguard-go, as given", str(wireguard_go))]
    return [
        WireguardGo("wireguard-go", "wireguard-go"),
        *(given if wireguard_go else []),
        Tinc("tinc", "tinc"),
        Tinc("tinc-none", "tinc, no cipher, no digest", "Cipher = none", "Digest = none"),
        Fastd("fastd", "fastd salsa2012+umac", "salsa2012+umac"),
        Fastd("fastd-null", "fastd null", "null"),
        Nebula(),
        Vpncloud(),
    ]


def _write_secret(path, text):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
