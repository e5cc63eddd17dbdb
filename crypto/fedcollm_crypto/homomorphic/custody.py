"""The decryptor's keys: one fresh pair for each attempt, made when asked for, used once, gone after, on disk never."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto.aggregation import Chunks, PartyId
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.messages import LIBRARY, FreshKey, KeyRequest
from fedcollm_crypto.homomorphic.parameters import Scheme
from fedcollm_crypto.homomorphic.residues import to_wire
from fedcollm_crypto.homomorphic.worker import Box, Worker, opened
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import rules
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import VECTOR_FRAME, sign_message
from fedcollm_crypto.masking.stages import Answered, StageJournal, Where
from fedcollm_crypto.roster import Roster

OPENING = "he-opening"
"""What the journal calls the one use of a key."""


RequireLogged = Callable[[RoundManifest, Collection[PartyId]], None]
"""Raises Refused with `unlogged_sum` unless the log names this attempt, and the sum over these silos as agreed."""


def no_log(manifest: RoundManifest, survivors: Collection[PartyId]) -> None:
    """Require nothing: for parties that live in one process without a log, such as a benchmark's."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """The key pair of the attempt under way; `box_key` opens what was sealed to the decryptor."""

    where: Where
    key_hash: bytes
    box: Box = field(repr=False)
    box_key: X25519PrivateKey = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DecryptorSetup:
    """What a decryptor brings along; `require_logged` is asked before each opening."""

    identity: Identity
    roster: Roster
    policy: SiloPolicy
    scheme: Scheme
    stages: StageJournal
    worker: Worker
    require_logged: RequireLogged

    def __post_init__(self) -> None:
        """Refuse an identity that the roster does not list as a decryptor."""
        member = self.roster.member(self.identity.party)
        if member.public_keys != self.identity.public_keys or member.role != "decryptor":
            raise ValueError(f"{self.identity.party} must be a decryptor of the roster, with the roster's key")

    @property
    def party(self) -> PartyId:
        """Return the decryptor's name."""
        return self.identity.party


class Custody:
    """Hold the key of one attempt at a time.

    Guarantee: at most one use of each key, and none in an attempt of which the journal knows a use, also after a
    restart. A restarted decryptor holds no key: its attempt is lost, and so is whatever the key could have opened.
    """

    def __init__(self, setup: DecryptorSetup) -> None:
        """Start without a key."""
        self._setup = setup
        self._held: Held | None = None
        self._latest: dict[str, tuple[int, int, int]] = {}  # session → the last attempt that a key was drawn for

    def issue(self, request: KeyRequest) -> Chunks:
        """Draw a fresh key pair for an attempt; the one before it goes, used or not. Raises: Refused, WorkerFailed."""
        setup = self._setup
        if request.parameters_hash != setup.scheme.hash:
            raise Refused("other_encryption", "the parameters asked for are not those of this decryptor")
        self._require_unused(request.where)
        self._require_later(request.where)
        self.forget()
        box, box_key = setup.worker.decryptor(setup.scheme), X25519PrivateKey.generate()
        wire = to_wire(box.public_key)
        key = FreshKey(
            where=request.where,
            parameters_hash=setup.scheme.hash,
            key_hash=messages.key_hash(wire),
            box_key=box_key.public_key().public_bytes_raw(),
            prime=box.prime,
            library=LIBRARY,
        )
        self._held = Held(where=request.where, key_hash=key.key_hash, box=box, box_key=box_key)
        return VECTOR_FRAME, wire, sign_message(setup.identity, key).encode()

    def held_for(self, manifest: RoundManifest) -> Held:
        """Return the key of this manifest's attempt, if the decryptor would open a sum under it. Raises: Refused."""
        held, setup = self._held, self._setup
        if held is None or held.where != Where.of(manifest):
            raise Refused("unknown_attempt", "there is no key for that attempt: it was used, or this party restarted")
        rules.require_my_roster(manifest, setup.roster)
        rules.require_threshold(manifest, setup.roster, setup.policy)
        if manifest.k_min < setup.policy.min_cohort:
            raise Refused("small_cohort", f"k_min is {manifest.k_min}, at least {setup.policy.min_cohort} is needed")
        named = manifest.encryption
        if named is None or (named.decryptor, named.key_hash) != (setup.party, held.key_hash.hex()):
            raise Refused("other_encryption", "the manifest names another decryptor or another key")
        return held

    def use(self, manifest: RoundManifest, request_hash: bytes) -> Box:
        """Record, durably, that this attempt's key is used; give it up; return it for this one use."""
        held = self.held_for(manifest)
        self._require_unused(held.where)
        entry = Answered(where=held.where, stage=OPENING, request_hash=request_hash.hex(), members=manifest.cohort)
        self._setup.stages.append(entry)
        self._held = None
        return held.box

    def forget(self) -> None:
        """Delete the key, if there is one."""
        held, self._held = self._held, None
        if held is not None:
            with opened(held.box):
                pass

    def _require_later(self, where: Where) -> None:
        """Stop an old request from taking the key of the attempt under way."""
        order = where.round, where.attempt, where.linear_pass
        if order < self._latest.get(where.session_id, order):
            raise Refused("unknown_attempt", "a key was drawn for a later attempt")
        self._latest[where.session_id] = order

    def _require_unused(self, where: Where) -> None:
        """Stop a second opening in one attempt."""
        uses = (entry for entry in self._setup.stages.entries() if isinstance(entry, Answered))
        if any(entry.where == where and entry.stage == OPENING for entry in uses):
            raise Refused("released", "a sum was opened in that attempt: no second one")


def check_key(key: FreshKey, wire: bytes | memoryview, scheme: Scheme) -> None:
    """Raise ProtocolError unless the bytes are the key that the decryptor signed, made by a library like ours."""
    if key.key_hash != messages.key_hash(bytes(wire)):
        raise ProtocolError("the public key is not the one that the decryptor signed")
    if (key.parameters_hash, key.library) != (scheme.hash, LIBRARY):
        raise ProtocolError(
            f"the decryptor's key is for other parameters or another library: expected {LIBRARY}, got {key.library}"
        )
