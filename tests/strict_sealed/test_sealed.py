"""The vectors of tests/vectors/sealed/, made by a second implementation."""

import pathlib
import struct
import unittest

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


class Reading(unittest.TestCase):
    controls = {
        1: "keepalive", 2: "path_challenge", 3: "path_response", 4: "size_probe", 5: "size_seen", 6: "close",
        7: "counts", 8: "list_number", 9: "list_request", 10: "list_piece",
    }

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
            key, mesh_id = field(MESH, "broadcast_key_0"), field(MESH, "mesh_id")
            secret = field(node, "ed25519_secret") if name == "signed" else None
            payload, boot = field(scene, "payload"), field(scene, "boot")
            for sequence in (0, 1):
                made = endtoend.broadcast(key, mesh_id, self.src, boot, sequence, payload, secret)
                self.assertEqual(made, field(scene, f"broadcast_{sequence}"))
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
    def test_the_secret_files_of_both_nodes(self):
        for name, scene in scenes("files.txt").items():
            node = KEYS[name]
            made = sealed.identity(field(node, "x25519_secret"), field(node, "ed25519_secret"))
            self.assertEqual(made.encode(), field(scene, "identity"))
            self.assertEqual((sealed.text_of(field(MESH, "mesh_secret")) + "\n").encode(), field(scene, "secret"))

    def test_a_token_says_what_went_into_it(self):
        scene = scenes("token.txt")["two addresses"]
        read = sealed.token(scene["token"])
        self.assertEqual(sealed.token(scene["token"].upper()), read)
        self.assertEqual(read["secret"], field(scene, "mesh_secret"))
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
            made = sealed.revocations(secret, field(MESH, "mesh_id"), number, entries)
            self.assertEqual(made, field(scene, "list"))
            self.assertEqual(sealed.armor("mr1-", b"mesh-revocations v1", made), scene["text"])
        for scene in scenes("certificate.txt").values():
            secret, certificate = field(scene, "authority_secret"), field(scene, "certificate")
            signature = primitives.sign(secret, b"mesh-cert v1" + certificate[:-64])
            self.assertEqual(signature, certificate[-64:])
            text = b"mesh-cert v1" + certificate[:-64]
            self.assertTrue(primitives.verify(field(scene, "authority"), text, signature))
        texts = found["the texts of key and certificate"]
        for prefix, word in (("ma1-", "authority"), ("mc1-", "certificate")):
            made = sealed.armor(prefix, b"mesh-" + word.encode() + b" v1", field(texts, word))
            self.assertEqual(made, texts[word + "_text"])


if __name__ == "__main__":
    unittest.main()
