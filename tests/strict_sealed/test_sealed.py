"""The vectors of tests/vectors/sealed/, made by a second implementation."""

import pathlib
import struct
import unittest

import authority
import endtoend
import handshake
import primitives
import sealed

VECTORS = pathlib.Path(__file__).parent.parent / "vectors" / "sealed"


def scenes(file: str) -> dict[str, dict[str, str]]:
    """The scenes of a file, by name."""
    found = {}
    for block in (VECTORS / file).read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        pairs = (line.partition(":") for line in lines)
        scene = {key: value.strip() for key, _, value in pairs}
        if scene:
            found[scene["name"]] = scene
    return found


def field(scene, key):
    return bytes.fromhex(scene[key])


KEYS = scenes("keys.txt")
MESH = KEYS["a mesh"]


class Keys(unittest.TestCase):
    def test_what_is_derived_from_the_mesh_secret(self):
        secret = field(MESH, "mesh_secret")
        self.assertEqual(sealed.text_of(secret), MESH["text"])
        self.assertEqual(sealed.derive(secret, b"mesh-id v1", 16), field(MESH, "mesh_id"))
        self.assertEqual(sealed.derive(secret, b"link-psk v1"), field(MESH, "link_psk"))
        mac1 = sealed.derive(secret, b"mac1 v1")
        self.assertEqual(mac1, field(MESH, "mac1_key"))
        self.assertEqual(sealed.derive(mac1, b"cookie v1"), field(MESH, "cookie_key"))
        self.assertEqual(sealed.derive(secret, b"e2e-psk v1"), field(MESH, "end_to_end_psk"))
        self.assertEqual(sealed.derive(secret, b"e2e-mac1 v1"), field(MESH, "end_to_end_mac1_key"))
        for epoch in (0, 258):
            info = b"bcast v1" + struct.pack(">I", epoch)
            self.assertEqual(sealed.derive(secret, info), field(MESH, f"broadcast_key_{epoch}"))
        self.assertEqual(primitives.mac(mac1, b"abc"), field(MESH, "mac_of_abc_by_mac1_key"))

    def test_what_follows_from_later_secrets_of_the_same_mesh(self):
        for name in ("the same mesh with its next secret", "and with the one after that"):
            scene = KEYS[name]
            secret, mesh_id, epoch = field(scene, "secret"), field(MESH, "mesh_id"), int(scene["epoch"])
            self.assertEqual(field(scene, "mesh_id"), mesh_id)
            self.assertEqual(sealed.text_of(secret, mesh_id, epoch), scene["text"])
            for text in (scene["text"], scene["text"].upper()):
                self.assertEqual(sealed.secret_of(text), (secret, mesh_id, epoch))
            mesh = sealed.Mesh(secret, mesh_id, epoch)
            for key, made in (
                ("link_psk", mesh.link_psk), ("mac1_key", mesh.mac1), ("cookie_key", mesh.cookie),
                ("end_to_end_psk", mesh.e2e_psk), ("end_to_end_mac1_key", mesh.e2e_mac1),
                ("broadcast_key", mesh.broadcast),
            ):
                self.assertEqual(made, field(scene, key), key)
            fingerprint = primitives.mac(mesh.mac1, b"next-secret v1")[:8]
            self.assertEqual(struct.pack(">I", epoch) + fingerprint, field(scene, "record_12"))
            damaged = scene["text"][:-1] + ("a" if scene["text"][-1] != "a" else "b")
            for text in (damaged, "mk1" + scene["text"][3:], MESH["text"][:3] + "2" + MESH["text"][4:]):
                with self.assertRaises(ValueError):
                    sealed.secret_of(text)
        self.assertEqual(sealed.secret_of(MESH["text"]), (field(MESH, "mesh_secret"), b"", 0))

    def test_what_a_node_is_known_by(self):
        for name in ("a node", "another node"):
            node = KEYS[name]
            s = primitives.public(field(node, "x25519_secret"))
            self.assertEqual(s, field(node, "s"))
            mesh_id, netid = field(MESH, "mesh_id"), int(node["netid"], 16)
            made = sealed.binding(field(node, "ed25519_secret"), mesh_id, netid, s)
            self.assertEqual(made, field(node, "binding"))
            self.assertEqual(made[:32], field(node, "v"))
            text = sealed.binding_text(mesh_id, netid, s)
            self.assertTrue(primitives.verify(made[:32], text, made[32:]))
            self.assertFalse(primitives.verify(made[:32], text + b"!", made[32:]))
            netid = sealed.netid_of(field(MESH, "mesh_id"), s)
            self.assertEqual(f"{netid:08x}", node["netid_from_s"])


class Handshake(unittest.TestCase):
    def noise(self, scene, name, initiator):
        static = field(KEYS[name], "x25519_secret")
        ephemeral = field(scene, f"{'initiator' if initiator else 'responder'}_ephemeral_secret")
        start = sealed.prologue(field(MESH, "mesh_id"), 0x0A0B0C0D)
        return sealed.Noise(field(MESH, "link_psk"), start, static, ephemeral, initiator)

    def test_both_sides_arrive_at_the_same_bytes_and_keys(self):
        for scene in scenes("handshake.txt").values():
            self.shake(scene, int(scene["aead"]))

    def shake(self, scene, aead):
        mac1 = field(MESH, "mac1_key")
        near, far = self.noise(scene, "a node", True), self.noise(scene, "another node", False)
        a, b = KEYS["a node"], KEYS["another node"]
        ours, theirs = 0x0A0B0C0D, 0x01020304

        # INIT: offer, policy, the netid that is called.
        payload = sealed.record(1, bytes(range(aead, 0, -1))) + sealed.record(5, b"\1")
        payload += sealed.record(7, field(b, "netid"))
        message = near.write(sealed.FIRST, payload)
        self.assertEqual(sealed.init(mac1, ours, message), field(scene, "init"))
        self.assertEqual(far.read(sealed.FIRST, message), payload)

        # RESP: choice, policy, netid, binding, where the initiator is seen, boot.
        seen = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 5]) + struct.pack(">H", 44204)
        payload = sealed.record(3, bytes([aead])) + sealed.record(5, b"\1") + sealed.record(9, field(b, "netid"))
        payload += sealed.record(13, field(b, "binding")) + sealed.record(6, seen)
        payload += sealed.record(10, struct.pack(">II", 1, 0x80))
        message = far.write(sealed.SECOND, payload)
        self.assertEqual(sealed.answer(mac1, 2, theirs, ours, message), field(scene, "resp"))
        self.assertEqual(sealed.records(near.read(sealed.SECOND, message))[3], bytes([aead]))
        self.assertEqual(near.rs, field(b, "s"))

        # FIN: netid, binding, where the responder is seen, boot.
        seen = bytes.fromhex("20010db8000000000000000000000007") + struct.pack(">H", 44204)
        payload = sealed.record(9, field(a, "netid")) + sealed.record(13, field(a, "binding"))
        payload += sealed.record(6, seen) + sealed.record(10, struct.pack(">II", 1, 0x40))
        message = near.write(sealed.THIRD, payload)
        self.assertEqual(sealed.answer(mac1, 3, ours, theirs, message), field(scene, "fin"))
        self.assertEqual(far.read(sealed.THIRD, message), payload)
        self.assertEqual(far.rs, field(a, "s"))

        # The session: a message one way, a keepalive the other.
        self.assertEqual(near.split(), far.split())
        first, second = (sealed.session_key(key, aead, ours, theirs) for key in near.split())
        hello = field(scene, "message")
        frames = struct.pack(">H", len(hello)) + hello
        for counter in (0, 1):
            made = sealed.link(aead, first, theirs, counter, frames)
            self.assertEqual(made, field(scene, f"link_{counter}_of_initiator"))
        keepalive = field(scene, "keepalive_of_responder")
        opened = sealed.aead(aead)[1](second, 0, keepalive[:16], keepalive[16:])
        self.assertEqual(opened, b"\x80\1\0\0")


class Formal(handshake.LinkScope):
    """Asks for no mac: those of datagrams.txt are made up."""

    def check(self, kind, before, rest):
        self.form(kind, before, rest)


def meaning(datagram: bytes) -> str:
    """What stands in clear in it. Errors: handshake.Refused."""
    kind = datagram[1] if datagram[:1] == b"\xae" and len(datagram) > 1 else 0
    if kind in (1, 2, 3):
        scope = Formal(sealed.Mesh(field(MESH, "mesh_secret")))
        sender, receiver, noise = handshake.parse(scope, kind, datagram)
        rest = datagram[(10 if kind == 1 else 14) + len(noise) :]
        said = {"sender": f"{sender:08x}", "receiver": f"{receiver:08x}", "noise": noise.hex(), "mac1": rest[:16].hex()}
        if kind == 1:
            del said["receiver"]
            said["mac2"] = rest[16:32].hex()
    elif kind == 4 and len(datagram) == 64 and not any(datagram[2:4]):
        said = {"receiver": datagram[4:8].hex(), "nonce": datagram[8:32].hex(), "sealed": datagram[32:].hex()}
    elif kind == 5:
        handshake.link_form(datagram)
        said = {"receiver": datagram[4:8].hex(), "counter": int.from_bytes(datagram[8:16], "big")}
    else:
        raise handshake.Refused("form")
    words = [f"kind={('init', 'resp', 'fin', 'cookie', 'link')[kind - 1]}"]
    words += [f"{key}={value}" for key, value in said.items()]
    return " ".join(words + (["alone"] if kind == 5 and datagram[2] else []))


class Reading(unittest.TestCase):
    controls = {
        1: "keepalive", 2: "path_challenge", 3: "path_response", 4: "size_probe", 5: "size_seen", 6: "close",
        7: "counts", 8: "list_number", 9: "list_request", 10: "list_piece",
    }

    def test_datagrams_mean_what_they_say_and_others_are_refused(self):
        for name, scene in scenes("datagrams.txt").items():
            self.assertEqual(meaning(field(scene, "hex")), scene["means"], name)
        for name, scene in scenes("datagrams-invalid.txt").items():
            with self.assertRaises(handshake.Refused, msg=name):
                meaning(field(scene, "hex"))

    def test_frames_mean_what_they_say(self):
        for name, scene in scenes("frames.txt").items():
            found, is_whole = sealed.frames(field(scene, "hex"))
            said = []
            for kind, body in found:
                word = self.controls.get(kind, f"unknown:{kind:04x}") if kind else "message"
                said.append(word if kind == 1 else f"{word}={body.hex()}")
            said += [] if is_whole else ["fault"]
            self.assertEqual(" ".join(said) or "nothing", scene["means"], name)

    def test_records_mean_what_they_say(self):
        for name, scene in scenes("records.txt").items():
            message, _, _ = scene["means"].removeprefix("in=").partition(" ")
            found, is_whole = handshake.scan(int(message), field(scene, "hex"))
            said = [f"in={message}"] + [f"{kind}={value.hex()}" for kind, value in found]
            self.assertEqual(" ".join(said + ([] if is_whole else ["fault"])), scene["means"], name)


class Ends(unittest.TestCase):
    src, dst, ours, theirs = 0x2A, 0x07, 0x0A0B0C0D, 0x01020304

    def test_both_ends_arrive_at_the_same_payloads(self):
        for scene in scenes("endtoend.txt").values():
            self.shake(scene, int(scene["aead"]))

    def shake(self, scene, aead):
        mac1, mesh_id = field(MESH, "end_to_end_mac1_key"), field(MESH, "mesh_id")
        a, b = KEYS["a node"], KEYS["another node"]
        start = endtoend.prologue(mesh_id, self.src, self.dst, self.ours)

        def noise(node, side):
            ephemeral = field(scene, f"{side}_ephemeral_secret")
            static = field(node, "x25519_secret")
            return sealed.Noise(field(MESH, "end_to_end_psk"), start, static, ephemeral, side == "initiator")

        near, far = noise(a, "initiator"), noise(b, "responder")
        payload = sealed.record(1, bytes(range(aead, 0, -1))) + sealed.record(5, b"\1") + sealed.record(7, field(b, "netid"))
        message = near.write(sealed.FIRST, payload)
        self.assertEqual(endtoend.init(mac1, self.src, self.dst, self.ours, message), field(scene, "init"))
        self.assertEqual(far.read(sealed.FIRST, message), payload)
        payload = sealed.record(3, bytes([aead])) + sealed.record(5, b"\1") + sealed.record(9, field(b, "netid"))
        payload += sealed.record(13, field(b, "binding")) + sealed.record(10, struct.pack(">II", 1, 0x80))
        message = far.write(sealed.SECOND, payload)
        made = endtoend.answer(mac1, self.dst, self.src, 2, self.theirs, self.ours, message)
        self.assertEqual(made, field(scene, "resp"))
        self.assertEqual(near.read(sealed.SECOND, message), payload)
        payload = sealed.record(9, field(a, "netid")) + sealed.record(13, field(a, "binding"))
        payload += sealed.record(10, struct.pack(">II", 1, 0x40))
        message = near.write(sealed.THIRD, payload)
        made = endtoend.answer(mac1, self.src, self.dst, 3, self.ours, self.theirs, message)
        self.assertEqual(made, field(scene, "fin"))
        self.assertEqual(far.read(sealed.THIRD, message), payload)
        info = endtoend.INFO + struct.pack(">BII", aead, self.ours, self.theirs)
        first, second = (sealed.derive(key, info) for key in near.split())
        packet = field(scene, "payload")
        made = endtoend.data(aead, first, self.src, self.dst, self.theirs, 0, packet)
        self.assertEqual(made, field(scene, "data_of_initiator"))
        made = endtoend.data(aead, second, self.dst, self.src, self.ours, 0, packet)
        self.assertEqual(made, field(scene, "data_of_responder"))

    def test_broadcasts_signed_and_not(self):
        for name, scene in scenes("broadcast.txt").items():
            node = KEYS[scene["node"]]
            mesh_id, epoch = field(MESH, "mesh_id"), int(scene["epoch"])
            key = field(KEYS["the same mesh with its next secret"], "broadcast_key") if epoch else field(MESH, "broadcast_key_0")
            secret = None if name == "not signed" else field(node, "ed25519_secret")
            payload, boot = field(scene, "payload"), field(scene, "boot")
            for sequence in (0, 1):
                made = endtoend.broadcast(key, mesh_id, self.src, boot, sequence, payload, secret, epoch)
                self.assertEqual(made, field(scene, f"broadcast_{sequence}"))
                self.assertEqual(endtoend.epoch_of(made), epoch)
                opened = endtoend.open_broadcast(key, mesh_id, self.src, made, field(node, "v"))
                self.assertEqual(opened, payload)
                for src, v in ((7, field(node, "v")), (self.src, field(KEYS["another node"], "v"))):
                    if src == 7 or secret:
                        with self.assertRaises(ValueError):
                            endtoend.open_broadcast(key, mesh_id, src, made, v)


class Cookie(unittest.TestCase):
    def test_it_is_opened_with_the_mac1_of_its_init_and_makes_mac2(self):
        scene = scenes("cookie.txt")["from 192.0.2.5 port 44204"]
        address = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 5]) + struct.pack(">H", 44204)
        cookie = primitives.mac(field(scene, "cookie_secret"), address)
        self.assertEqual(cookie, field(scene, "cookie"))
        datagram, mac1 = field(scene, "datagram"), field(scene, "mac1_of_init")
        key = field(MESH, "cookie_key")
        self.assertEqual(primitives.seal_extended(key, datagram[8:32], mac1, cookie), datagram[32:])
        self.assertEqual(primitives.open_extended(key, datagram[8:32], mac1, datagram[32:]), cookie)
        init = field(scenes("handshake.txt")["with AES-256-GCM"], "init")
        before = init[: 26 + int.from_bytes(init[8:10], "big")]
        self.assertEqual(before[-16:], mac1)
        self.assertEqual(primitives.mac(cookie + bytes(16), before), field(scene, "mac2_of_next_init"))


class Files(unittest.TestCase):
    def test_the_secret_files(self):
        for name, scene in scenes("files.txt").items():
            node = KEYS[name.removesuffix(" while its mesh changes its secret")]
            keys = field(node, "x25519_secret"), field(node, "ed25519_secret")
            self.assertEqual(sealed.identity(*keys).encode(), field(scene, "identity"))
            self.assertEqual(sealed.keys_of(field(scene, "identity").decode()), keys)
            self.assertEqual((sealed.text_of(field(MESH, "mesh_secret")) + "\n").encode(), field(scene, "secret"))
            if "next" in scene:
                text = KEYS["the same mesh with its next secret"]["text"] + "\n"
                self.assertEqual(text.encode(), field(scene, "next"))

    def test_a_token_says_what_went_into_it(self):
        for scene in scenes("token.txt").values():
            read = sealed.token(scene["token"])
            self.assertEqual(sealed.token(scene["token"].upper()), read)
            self.assertEqual(read["secret"], field(scene, "mesh_secret"))
            lineage = (field(scene, "mesh_id"), int(scene["epoch"])) if "epoch" in scene else (b"", 0)
            self.assertEqual((read["mesh_id"], read["epoch"]), lineage)
            for key in ("not_after", "mtu", "mesh"):
                self.assertEqual(str(read[key]), scene[key])
            self.assertEqual(read["addresses"], [scene["address_1"], scene["address_2"]])
            with self.assertRaises(ValueError):
                sealed.token(scene["token"][:-1] + ("a" if scene["token"][-1] != "a" else "b"))


class Session(unittest.TestCase):
    def test_from_the_keys_of_split_to_a_datagram(self):
        for scene in scenes("session.txt").values():
            aead = int(scene["aead"])
            keys = [
                sealed.session_key(field(scene, f"split_{side}"), aead, 0x0A0B0C0D, 0x01020304)
                for side in ("initiator", "responder")
            ]
            self.assertEqual(keys, [field(scene, "key_of_initiator"), field(scene, "key_of_responder")])
            for counter in (0, 1):
                made = sealed.link(aead, keys[0], 0x01020304, counter, b"\0\2hi")
                self.assertEqual(made, field(scene, f"link_{counter}"))


class Adversary(unittest.TestCase):
    """The scene of adversarial.txt: what this implementation makes of each datagram, in the words of the file."""

    def setUp(self):
        mesh = sealed.Mesh(field(MESH, "mesh_secret"))
        node = KEYS["a node"]
        secrets = field(node, "x25519_secret"), field(node, "ed25519_secret")
        self.local = handshake.Local(mesh, 0x2A, *secrets, bytes(8))
        self.scope = handshake.LinkScope(mesh)
        self.sessions = {}
        for ours, theirs, first in ((0x01020304, 0x0A0B0C0D, 0x10), (0x05060708, 0x0E0F0001, 0x18)):
            splits = (bytes(range(at, at + 32)) for at in (first, first + 32))
            keys = [sealed.session_key(split, 1, ours, theirs) for split in splits]
            self.sessions[ours] = handshake.Session(self.scope, 1, (ours, theirs), *keys, None)

    def outcome(self, datagram: bytes) -> str:
        if datagram[:1] == b"\xac":
            return "not_sealed"
        if datagram[:1] != b"\xae" or not 1 <= int.from_bytes(datagram[1:2], "big") <= 5:
            return "malformed"
        if datagram[1] != 5:
            try:
                # An INIT alone can be right: nobody here has sent one.
                handshake.Responder(self.local, self.scope, 1, datagram)
                return "answered"
            except handshake.Refused:
                return "handshake"
        session = self.sessions.get(int.from_bytes(datagram[4:8], "big"))
        try:
            handshake.link_form(datagram)
            if session is None:
                return "unknown_session"
            session.open(datagram)
            return "opens"
        except handshake.Refused as error:
            return {"form": "malformed"}.get(str(error), str(error))

    def test_each_datagram_has_the_outcome_that_the_file_names(self):
        refusals = {"not_sealed", "malformed", "answered", "handshake", "unknown_session", "replayed", "forged"}
        for name, scene in scenes("adversarial.txt").items():
            expected = scene["outcome"]
            # What is in a LINK that opens is for the rules of messages to judge.
            opens = expected not in refusals or name == "G a sealed datagram in a sealed one"
            found = self.outcome(field(scene, "hex"))
            self.assertEqual(found, "opens" if opens else expected, name)


class Tempter(Adversary):
    """The scene of adversarial-downgrade.txt: node 07 is latched, and so is 192.0.2.7 (S86)."""

    def outcome(self, datagram: bytes, source: str = "192.0.2.7:44204") -> str:
        if datagram[:1] != b"\xac":
            return super().outcome(datagram)
        is_sealed_data = len(datagram) > 16 and datagram[2] == 0x10 and datagram[16] == 0xC8
        src = int.from_bytes(datagram[8:12], "big") if len(datagram) >= 16 else 0
        if source == "192.0.2.7:44204" or src == 7 and not is_sealed_data:
            return "plain_from_sealed"
        return "flooded"

    def test_each_datagram_has_the_outcome_that_the_file_names(self):
        for name, scene in scenes("adversarial-downgrade.txt").items():
            self.assertEqual(self.outcome(field(scene, "hex"), scene["from"]), scene["outcome"], name)


class AdversaryOfEnds(unittest.TestCase):
    """The scene of adversarial-ends.txt. Signed broadcasts are only opened here, with no memory of those before."""

    def setUp(self):
        mesh = sealed.Mesh(field(MESH, "mesh_secret"))
        node = KEYS["a node"]
        self.local = handshake.Local(mesh, 0x2A, field(node, "x25519_secret"), field(node, "ed25519_secret"), bytes(8))
        self.sessions = {}
        for src, ours, theirs, first in (
            (7, 0x01020304, 0x0A0B0C0D, 0x10), (7, 0x05060708, 0x0E0F0001, 0x18), (9, 0x0C0C0C0C, 0x0D0D0D0D, 0x50),
        ):
            scope = handshake.EndScope(mesh, 0x2A, src, 0x2A)
            splits = (bytes(range(at, at + 32)) for at in (first, first + 32))
            keys = [sealed.derive(split, endtoend.INFO + struct.pack(">BII", 1, ours, theirs)) for split in splits]
            self.sessions[src, ours] = handshake.Session(scope, 1, (ours, theirs), *keys, None)

    def outcome(self, src: int, dst: int, payload: bytes) -> str:
        kind = payload[1] if len(payload) > 1 else 0
        if kind in (1, 2, 3) and dst == 0x2A:
            try:
                handshake.Responder(self.local, handshake.EndScope(self.local.mesh, src, 0x2A, 0x2A), 1, payload)
                return "answered"
            except handshake.Refused:
                return "handshake"
        if kind == 5 and dst == endtoend.ALL_NODES:
            return self.broadcast(src, payload)
        if kind != 4:
            return "malformed"
        try:
            handshake.link_form(payload, flags=0)
            session = self.sessions.get((src, int.from_bytes(payload[4:8], "big")))
            if session is None:
                return "unknown_session"
            if dst != 0x2A:
                # It was not sealed for all.
                return "forged"
            return "delivered" if session.open(payload) else "opened"
        except handshake.Refused as error:
            return {"form": "malformed"}.get(str(error), str(error))

    def broadcast(self, src: int, payload: bytes) -> str:
        mesh = self.local.mesh
        if len(payload) < 40 or payload[2] & ~1 or payload[3]:
            return "malformed"
        if endtoend.epoch_of(payload) != mesh.epoch:
            return "unknown_session"
        if src != 7 or not payload[2]:
            return "unsigned"
        if len(payload) < 104 or int.from_bytes(payload[16:24], "big") >= 2**44:
            return "malformed"
        try:
            v = field(KEYS["another node"], "v")
            endtoend.open_broadcast(mesh.broadcast, mesh.mesh_id, src, payload, v)
            return "delivered"
        except ValueError:
            return "forged"

    def test_each_payload_has_the_outcome_that_the_file_names(self):
        for name, scene in scenes("adversarial-ends.txt").items():
            payload, is_broadcast = field(scene, "hex"), "broadcast" in name
            found = self.outcome(int(scene["src"], 16), int(scene["dst"], 16), payload)
            expected = "delivered" if is_broadcast and scene["outcome"] == "replayed" else scene["outcome"]
            self.assertEqual(found, expected, name)


class Authority(unittest.TestCase):
    def test_from_its_secret_to_the_text_of_a_list(self):
        found = scenes("revocation.txt")
        key = (0, field(KEYS["a node"], "s"), 1_707_776_000)
        serial = (7, bytes(32), 2**64 - 1)
        for name, number, entries in (
            ("without entries", 1, []),
            ("a key and a serial", 2, [serial, key]),
        ):
            scene = found[name]
            secret = field(scene, "authority_secret")
            self.assertEqual(primitives.verifying(secret), field(scene, "authority"))
            mesh_id = field(MESH, "mesh_id")
            made = authority.signed_revocations(secret, mesh_id, number, entries)
            self.assertEqual(made, field(scene, "list"))
            self.assertEqual(authority.armor("mr1-", made), scene["text"])
            read = authority.revocations(authority.unarmored(scene["text"], "mr1-"), mesh_id, field(scene, "authority"))
            self.assertEqual(read, authority.Revocations(number, {7} if entries else set(), {key[1]} if entries else set()))
        for name, scene in scenes("certificate.txt").items():
            secret, bytes_ = field(scene, "authority_secret"), field(scene, "certificate")
            self.assertEqual(primitives.sign(secret, b"mesh-cert v1" + bytes_[:-64]), bytes_[-64:])
            read = authority.certificate(bytes_, field(MESH, "mesh_id"), field(scene, "authority"))
            node = KEYS["a node"]
            self.assertEqual((read.netid, read.s, read.v), (0x2A, field(node, "s"), field(node, "v")))
            if name == "with a name and two prefixes":
                ten, ula = bytes([10]) + bytes(15), b"\xfd\x93" + bytes(14)
                self.assertEqual((read.name, read.serial, read.rate_class), ("van 3", 7, 2))
                self.assertEqual(read.prefixes, [(4, 8, ten), (6, 48, ula)])
                self.assertEqual((read.not_before, read.not_after), (1_700_000_000, 1_707_776_000))
        for name, scene in scenes("certificate-invalid.txt").items():
            with self.assertRaisesRegex(ValueError, "version|not canonical|prefix|ends too soon", msg=name):
                authority.certificate(field(scene, "certificate"), field(MESH, "mesh_id"), primitives.verifying(secret))
        texts = found["the texts of key and certificate"]
        for prefix, word in (("ma1-", "authority"), ("mc1-", "certificate")):
            self.assertEqual(authority.armor(prefix, field(texts, word)), texts[word + "_text"])
            self.assertEqual(authority.unarmored(texts[word + "_text"].upper(), prefix), field(texts, word))


if __name__ == "__main__":
    unittest.main()
