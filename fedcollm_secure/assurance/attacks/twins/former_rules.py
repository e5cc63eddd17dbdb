"""This project's own silo with rules that look at one attempt, one message or one session: as it was before a review.

Each function is what a rule was, or did not do. They are put in a rule's place for as long as an attack on the twin
runs, and nowhere else.
"""

from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import Refused
from fedcollm_crypto.masking import invariant, rules
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import RoundManifest, threshold
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.stages import Heard, Released
from fedcollm_crypto.roster import Roster
from fedcollm_secure.audit_log.journal import HeadCosigned, Journal, check_note
from fedcollm_secure.federation import log_reader
from fedcollm_secure.federation.gates import TrustRegion
from fedcollm_secure.learning.vectors import Float32


def threshold_of_the_cohort(manifest: RoundManifest, roster: Roster, policy: SiloPolicy) -> None:
    """Take n in t(n) from the attempt's cohort, which the server picks."""
    if manifest.threshold < threshold(len(manifest.cohort), policy.colluding, policy.adversary):
        raise Refused("low_threshold", "t is too low for this cohort")


def allow(*_: object) -> None:
    """Have no such rule."""


def cosigned_by_anybody(*_: object) -> bool:
    """Let the decryptor open under a head that no quorum of silos stands behind."""
    return True


def single_changes_alone(
    manifest: RoundManifest, survivors: Collection[PartyId], policy: SiloPolicy, memory: Memory
) -> None:
    """Count sums of this session that differ by exactly one silo from an earlier one; two at a time are not counted."""
    if manifest.dp_plan_hash:
        return
    mine = (one for one in memory.sums if one.where.session_id == manifest.session_id)
    history = [set(one.survivors) for one in mine] + [set(survivors)]
    single = [any(len(now ^ before) == 1 for before in history[:i]) for i, now in enumerate(history)]
    if single[-1] and sum(single) > policy.max_single_changes:
        raise Refused("cohort_changes", "one more sum would differ by one silo from an earlier one")


def no_second_sum_unless_somebody_was_convicted(manifest: RoundManifest, memory: Memory) -> None:
    """Take any conviction for leave to open the sum again, over whomever the server names."""
    mine = memory.of_version(manifest, manifest.linear_pass)
    if not memory.convicted and any(one.where.session_id == manifest.session_id for one in mine):
        raise Refused("released", "no second sum of one model version")


def one_set_unless_somebody_was_convicted(
    manifest: RoundManifest, survivors: Collection[PartyId], memory: Memory
) -> None:
    """Forget what a version was summed over as soon as anybody is convicted."""
    mine = memory.of_version(manifest, manifest.linear_pass)
    if not memory.convicted and any(set(one.survivors) != set(survivors) for one in mine):
        raise Refused("other_set", "one model version is summed over one set")


def drift_from_whatever_is_named(
    self: TrustRegion, manifest: RoundManifest, adapter: Float32, reference: Float32, averaged: str
) -> None:
    """Take the reference that the manifest names, whatever the log says of the average."""
    if reference.size and self.drift(reference, adapter) > self.limit:
        raise Refused("trust_region", "a module moved too far from the reference")


def last_head(journal: Journal) -> int:
    """Take every head that was cosigned for one whose lines were shown."""
    heads = [check_note(entry.note).size for entry in journal.entries if isinstance(entry, HeadCosigned)]
    return heads[-1] if heads else 0


def sums_of_this_session(self: Memory, manifest: RoundManifest, linear_pass: int) -> list[Released | Heard]:
    """Remember sums by session."""
    wanted = (manifest.adapter_hash, linear_pass, manifest.session_id)
    return [one for one in self.sums if (one.model_version, one.where.linear_pass, one.where.session_id) == wanted]


@contextmanager
def rules_that_look_at_one_attempt() -> Generator[None]:
    """Put the former rules in the place of those over all sums."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(rules, "require_threshold", threshold_of_the_cohort))
        for name in ("require_one_dimension", "require_noise_shares"):
            stack.enter_context(patch.object(invariant, name, allow))
        stack.enter_context(patch.object(invariant, "limit_exposure", single_changes_alone))
        stack.enter_context(patch.object(log_reader, "quorum_cosigned", cosigned_by_anybody))
        yield
