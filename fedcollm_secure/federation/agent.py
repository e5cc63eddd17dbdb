"""The silo's end of the envelopes: it joins the one session that it was started for, and hands on what is meant for it.

What is not the coordinator's gets no answer, which tells a forger nothing; the silo's own screen says what came.
"""

import secrets
from collections.abc import Callable, Iterator
from hashlib import sha256

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import sign
from fedcollm_secure.engines.engine import Chunks
from fedcollm_secure.federation.envelope import (
    NONCE_BYTES,
    OFFER,
    PROTOCOL,
    REQUEST,
    Joined,
    Offer,
    channel_of,
    open_request,
    opened,
    seal_reply,
)

Say = Callable[[str], None]


class Agent:
    """One party of one session, reachable from outside; called by one thread."""

    def __init__(
        self,
        *,
        identity: Identity,
        roster: Roster,
        session: str,
        plan: str,
        answer: Callable[[bytes], Chunks],
        say: Say,
    ) -> None:
        """Answer as `answer` does (`Silo.handle`), to the server of the roster, in this session of this plan."""
        (server,) = roster.of_role("server")
        self._identity, self._roster, self._server = identity, roster, server
        self._session, self._plan = session, plan
        self._answer, self._say = answer, say
        self._channel, self._next = "", 1

    def handle(self, message: bytes) -> Chunks:
        """Answer one message, or say nothing to one that is not the coordinator's to this party, once and in order."""
        try:
            if message[:1] == OFFER:
                return self._joined(message)
            if message[:1] == REQUEST and self._channel:
                return self._reply(message)
            raise ProtocolError("envelope: no offer, and no request of a session that was joined")
        except ProtocolError as error:
            self._say(f"a message was not answered: {error}")
            return iter(())

    def _joined(self, message: bytes) -> Iterator[bytes]:
        key = self._roster.key(self._server)
        offer = Offer.from_body(opened(message[1:], Offer.KIND, self._server, key))
        for what, got, expected in (
            ("protocol", offer.protocol, PROTOCOL),
            ("party", offer.to, self._identity.party),
            ("session", offer.session, self._session),
            ("plan", offer.plan, self._plan),
            ("roster", offer.roster, self._roster.hash),
        ):
            if got != expected:
                raise ProtocolError(f"offer: of {what} {str(got)[:64]!r}, this silo was started for {expected!r}")
        body = Joined(offer=sha256(message).hexdigest(), nonce=secrets.token_hex(NONCE_BYTES))
        joined = sign(self._identity, Joined.KIND, body.to_body()).encode()
        self._channel, self._next = channel_of(message, joined), 1
        return iter((joined,))

    def _reply(self, message: bytes) -> Iterator[bytes]:
        key = self._roster.key(self._server)
        number, payload = open_request(message, key, self._server, self._channel, self._next)
        self._next = number + 1
        return seal_reply(self._identity, self._channel, number, self._answer(payload))
