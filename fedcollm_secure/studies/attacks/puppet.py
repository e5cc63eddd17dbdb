"""A silo whose secrets the attacker knows: one in league with the server, or one that the server made up.

It speaks the real protocol, verb by verb, so that honest silos cannot tell; what it signs, it signs with `signer`. The
signer of a silo in league is its own key; of a made-up one, a key of the attacker's under somebody else's name.
"""

import secrets as system
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import attempt
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import OpenedShares, Place, Secrets
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import masked_chunks
from fedcollm_crypto.masking.messages import Consent, ShareBox, Upload
from fedcollm_crypto.masking.policy import Pledge
from fedcollm_crypto.masking.requests import sign_message
from fedcollm_crypto.signed import Signed


def draw_secrets() -> Secrets:
    """Draw ephemeral secrets as a silo does."""
    return Secrets.draw(system.token_bytes)


@dataclass(frozen=True, kw_only=True)
class Puppet:
    """One silo of the attacker's; `vector` is what it adds to the sum."""

    signer: Identity
    vector: Vector = field(repr=False)
    secrets: Secrets = field(default_factory=draw_secrets, repr=False)

    def hello(self, manifest: RoundManifest) -> Signed:
        """(M1) Greet like anybody."""
        return sign_message(self.signer, attempt.say_hello(manifest, self.secrets, Pledge()))

    def boxes(self, place: Place) -> dict[PartyId, Signed]:
        """(M2) Deal real shares."""
        channels = attempt.agree_channels(place, self.secrets)
        dealt = attempt.deal_shares(place, self.secrets, channels, system.token_bytes)
        return {box.recipient: sign_message(self.signer, box) for box in dealt}

    def open(self, place: Place, box: Signed) -> OpenedShares:
        """Open a box that was dealt to it: the attacker may use both shares."""
        channels = attempt.agree_channels(place, self.secrets)
        return attempt.open_box(place, channels[box.sender], ShareBox.from_body(box.body))

    def upload(self, place: Place, members: frozenset[PartyId]) -> tuple[Vector, Signed]:
        """(M3) Mask and sign."""
        keys = attempt.choose_masks(place, self.secrets, members)
        words = np.concatenate(list(masked_chunks(self.vector, place.manifest.quantisation.ring_bits, keys)))
        hasher = hashes.vector_hasher()
        hasher.update(words.tobytes())
        message = Upload(
            manifest_hash=place.manifest.hash,
            transcript=place.transcript,
            vector_hash=hasher.finalize(),
            cohort_hash=hashes.cohort_hash(members),
        )
        return words.astype(np.uint64), sign_message(self.signer, message)

    def consent(self, place: Place, uploads: Mapping[PartyId, Upload]) -> Signed:
        """(M4) Agree to any set, as often as asked."""
        survivors_hash = hashes.survivors_hash({party: upload.vector_hash for party, upload in uploads.items()})
        message = Consent(manifest_hash=place.manifest.hash, transcript=place.transcript, survivors_hash=survivors_hash)
        return sign_message(self.signer, message)
