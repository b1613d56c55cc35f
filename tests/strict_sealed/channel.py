"""Handshakes towards one endpoint, or one end, and the sessions that come of them (S41 to S48)."""

import secrets

from handshake import Initiator, Refused, Responder, Session

ENDLESS = float("inf")
LINK_RETRY, END_RETRY = (1, 2, 4, 8, 15), (1, 3, 30, 120, ENDLESS)
HALF_OPEN_SECONDS, HALVES = 5, 4
FIN_AGAIN, FIN_SECONDS = (0.5, 1.5, 3.5), 5
CROSSING_SECONDS = 1
PREVIOUS = 3
WAITING = 128


class Indices(dict):
    """Which channel a receiver index leads to (S8)."""

    def draw(self, channel: "Channel") -> int:
        index = secrets.randbits(32)
        while index in self:
            index = secrets.randbits(32)
        self[index] = channel
        return index


class Channel:
    """State: at most one attempt, four half-open answers, one current session and three previous ones.

    `scope(is_ours)` is the scope of an attempt that we, or they, begin; `send(datagram)` puts something on its
    way; `came_up(channel)` is told of each new current session; `greeting` is what a new session carries first.
    """

    def __init__(self, local, indices, scope, send, came_up, *, called=0, retry=LINK_RETRY, greeting=b"", lifetime=180):
        self.local, self.indices, self.scope, self.send, self.came_up = local, indices, scope, send, came_up
        self.called, self.retry, self.greeting, self.lifetime = called, retry, greeting, lifetime
        self.attempt: Initiator | None = None
        self.tries, self.tried_at, self.try_at = 0, 0.0, ENDLESS
        self.halves: list[tuple[float, Responder]] = []
        # An initiator's session of which the other side's knowledge is not proved, its FIN and when that went.
        self.pending: tuple[Session, bytes, float, int] | None = None
        self.current: Session | None = None
        self.sessions: dict[int, tuple[float, Session]] = {}
        self.answered: dict[bytes, Session] = {}
        self.waiting: list[bytes] = []

    # Out

    def dial(self, now: float) -> None:
        """Begins to try, unless it does or a session is up."""
        if self.current is None and self.try_at == ENDLESS and self.pending is None:
            self.tries, self.try_at = 0, now

    def rekey(self, now: float) -> None:
        self.tries, self.try_at = 0, now

    def say(self, text: bytes, now: float) -> None:
        """Seals and sends; or waits for a session, and begins a handshake."""
        if self.current is not None:
            self.send(self.current.seal(text))
            return
        self.waiting = [*self.waiting, text][-WAITING:]
        self.dial(now)

    def tick(self, now: float) -> None:
        if now >= self.try_at:
            self._begin(now)
        self._keep_halves([(at, half) for at, half in self.halves if now - at < HALF_OPEN_SECONDS])
        if self.pending is not None:
            session, fin, since, sent = self.pending
            if now - since >= FIN_SECONDS:
                self.pending = None
                self.rekey(now)
            elif sent < len(FIN_AGAIN) and now - since >= FIN_AGAIN[sent]:
                self.pending = (session, fin, since, sent + 1)
                self.send(fin)
        for index, (since, session) in list(self.sessions.items()):
            if now - since >= self.lifetime:
                self._erase(index, session)

    def _begin(self, now: float) -> None:
        self._end_attempt()
        self.attempt = Initiator(self.local, self.scope(True), self.indices.draw(self), self.called)
        self.tried_at = now
        self.try_at = now + self.retry[min(self.tries, len(self.retry) - 1)]
        self.tries += 1
        self.send(self.attempt.datagram)

    def _end_attempt(self) -> None:
        if self.attempt is not None:
            self.indices.pop(self.attempt.index, None)
        self.attempt = None

    def _keep_halves(self, halves: list) -> None:
        """Those and no others; the indices of the others are free."""
        kept = {half.index for _, half in halves}
        for _, half in self.halves:
            if half.index not in kept:
                self.indices.pop(half.index, None)
        self.halves = halves

    # In. Errors of all: Refused, and nothing has changed.

    def on_init(self, datagram: bytes, now: float) -> None:
        index = self.indices.draw(self)
        try:
            half = Responder(self.local, self.scope(False), index, datagram)
            if self.attempt is not None and half.ephemeral == self.attempt.ephemeral:
                raise Refused("reflection")
            is_crossing = self.attempt is not None and now - self.tried_at < CROSSING_SECONDS
            if is_crossing and self.attempt.ephemeral > half.ephemeral:
                raise Refused("ours goes first")
        except Refused:
            del self.indices[index]
            raise
        self._keep_halves([*self.halves, (now, half)][-HALVES:])
        self.send(half.datagram)

    def on_resp(self, datagram: bytes, now: float) -> None:
        if self.attempt is None:
            raise Refused("no attempt")
        fin, session = self.attempt.complete(datagram)
        self.attempt, self.try_at = None, ENDLESS
        self._keep(session, now)
        self.pending = (session, fin, now, 0)
        self.send(fin)

    def on_fin(self, datagram: bytes, now: float) -> None:
        if datagram in self.answered:
            self.send(self.answered[datagram].seal(self.greeting))
            return
        index = int.from_bytes(datagram[8:12], "big")
        for at, half in self.halves:
            if half.index == index:
                session = half.finish(datagram)
                self.halves.remove((at, half))
                self.answered = {datagram: session}
                # What comes of it ends an attempt of ours.
                self._end_attempt()
                self.try_at = ENDLESS
                self._keep(session, now)
                self._move(session)
                return
        raise Refused("no half-open handshake")

    def on_sealed(self, datagram: bytes, _now: float) -> bytes:
        """The plaintext."""
        index = int.from_bytes(datagram[4:8], "big")
        if index not in self.sessions:
            raise Refused("no session")
        _, session = self.sessions[index]
        text = session.open(datagram)
        if self.pending is not None and self.pending[0] is session:
            self.pending = None
            self._move(session)
        return text

    # Sessions

    def _keep(self, session: Session, now: float) -> None:
        self.sessions[session.local] = (now, session)
        for index, (_, old) in list(self.sessions.items())[: -PREVIOUS - 1]:
            self._erase(index, old)

    def _erase(self, index: int, session: Session) -> None:
        self.sessions.pop(index, None)
        self.indices.pop(index, None)
        if session is self.current:
            self.current = None

    def _move(self, session: Session) -> None:
        """From now on this one seals."""
        self.current = session
        self.send(session.seal(self.greeting))
        waiting, self.waiting = self.waiting, []
        for text in waiting:
            self.send(session.seal(text))
        self.came_up(self)
