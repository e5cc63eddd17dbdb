"""The coordinator's end of the envelopes: an `Engine` over a carrier, to whom every silo answers for itself."""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import sign
from fedcollm_secure.engines.engine import Carrier, Chunks
from fedcollm_secure.federation.envelope import (
    NONCE_BYTES,
    OFFER,
    PROTOCOL,
    SEAL_BYTES,
    Joined,
    Offer,
    channel_of,
    open_reply,
    opened,
    seal_request,
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Channel:
    """What was opened with a silo over one connection; `number` is that of the last request."""

    name: str
    connection: int
    number: int = 0


class _Sealed(Mapping[str, bytes]):
    """Requests that are sealed as they are sent."""

    def __init__(self, parties: Sequence[str], seal: Callable[[str], bytes]) -> None:
        self._parties, self._seal = parties, seal

    def __getitem__(self, party: str) -> bytes:
        return self._seal(party)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parties)

    def __len__(self) -> int:
        return len(self._parties)


class SignedEngine:
    """Signs what goes out, and checks whose answer comes in (`federation.envelope`)."""

    def __init__(
        self, carrier: Carrier, *, identity: Identity, roster: Roster, session: str, plan: str, say: Say
    ) -> None:
        """Run `session` of the plan with this digest over a carrier; `say` is told who does not join, and why."""
        self._carrier, self._identity, self._roster, self._say = carrier, identity, roster, say
        self._offer = Offer(
            protocol=PROTOCOL, to="", session=session, roster=roster.hash, plan=plan, nonce="00" * NONCE_BYTES
        )
        self._channels: dict[str, _Channel] = {}

    def parties(self) -> Sequence[str]:
        """Return who can be reached."""
        return self._carrier.parties()

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        """Wait as the carrier does."""
        return self._carrier.wait(parties, least)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        """Open a channel with whoever connected anew, then send, and yield what is signed by its sender."""
        self._open_channels(list(requests))
        asked = [party for party in requests if party in self._channels]

        def seal(party: str) -> bytes:
            channel = self._channels[party]
            self._channels[party] = channel = replace(channel, number=channel.number + 1)
            return seal_request(self._identity, channel.name, channel.number, requests[party])

        for party, chunks in self._carrier.exchange(_Sealed(asked, seal)):
            channel = self._channels[party]
            yield party, open_reply(chunks, self._roster.key(party), party, (channel.name, channel.number))

    def _open_channels(self, parties: Sequence[str]) -> None:
        connections = {party: self._carrier.connection(party) for party in parties}
        offers: dict[str, bytes] = {}
        for party, connection in connections.items():
            known = self._channels.get(party)
            if known is not None and known.connection != connection:
                del self._channels[party]
            if connection and party not in self._channels:
                body = replace(self._offer, to=party, nonce=secrets.token_hex(NONCE_BYTES)).to_body()
                offers[party] = OFFER + sign(self._identity, Offer.KIND, body).encode()
        for party, chunks in self._carrier.exchange(offers) if offers else ():
            try:
                joined = _bounded(chunks)
                answer = Joined.from_body(opened(joined, Joined.KIND, party, self._roster.key(party)))
                if answer.offer != sha256(offers[party]).hexdigest():
                    raise ProtocolError("it answers another offer")
            except ProtocolError as error:
                self._say(f"{party} did not join: {error}")
                continue
            self._channels[party] = _Channel(name=channel_of(offers[party], joined), connection=connections[party])


def _bounded(chunks: Chunks) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > SEAL_BYTES:
            raise ProtocolError("its answer to an offer is too long")
    if not data:
        raise ProtocolError("it says nothing to the offer; its own screen says why")
    return bytes(data)
