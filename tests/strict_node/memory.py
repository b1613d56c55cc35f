"""What happened lately: keys with their times, forgotten after a while, never more than a bound."""

import hashlib
import secrets


class Recent:
    """State: `times` is ordered by insertion, so the oldest key is always the first."""

    def __init__(self, seconds: float, bound: int) -> None:
        self.seconds, self.bound = seconds, bound
        self.times: dict = {}

    def expire(self, now: float) -> None:
        while self.times and now - self.times[self.oldest()] >= self.seconds:
            del self.times[self.oldest()]

    def add(self, key, now: float) -> bool:
        """False, and nothing is kept, if the key is known or the table is full."""
        self.expire(now)
        if key in self.times or len(self.times) >= self.bound:
            return False
        self.times[key] = now
        return True

    def oldest(self):
        return next(iter(self.times))


class Seen:
    """Hashes of packets. Beyond the bound the oldest go early: a full table must not stop all traffic."""

    def __init__(self, seconds: float, bound: int) -> None:
        self.key = secrets.token_bytes(16)
        self.recent = Recent(seconds, bound)

    def __len__(self) -> int:
        return len(self.recent.times)

    def add(self, datagram: bytes, now: float) -> bool:
        """Remembers the datagram; False if it was known."""
        digest = hashlib.blake2b(datagram, digest_size=16, key=self.key).digest()
        self.recent.expire(now)
        if digest not in self.recent.times and len(self) >= self.recent.bound:
            del self.recent.times[self.recent.oldest()]
        return self.recent.add(digest, now)
