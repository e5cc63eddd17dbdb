"""The invariant that a silo holds to, over all sums that it ever knew to be opened, on one screen.

A silo remembers every sum that it helped to open (`Released`), and every one that the consortium's log tells it of
(`Heard`): over attempts, rounds, passes and sessions on its records. It helps to open one more only if then, still,

    (1) one dimension    all sums of one model version and pass are over one set of silos; missing from a later one
                         may only be silos that were convicted of bad dealing since
    (2) nobody exposed   no combination of the sums is over fewer than n_c + 2 silos, but for convicted ones alone. So
                         if any n_c of them are in league with the server, each honest silo still stands behind
                         another. Differential privacy bounds what differences tell, so its sums are no part of this;
                         without it, a policy may bear with a stated number of exceptions, as when a silo drops out
                         (`max_single_changes`)
    (3) enough noise     each sum holds the noise shares of at least h silos that are in league with nobody, where the
                         privacy plan counts on h of them

Guarantee: against a server that chooses cohorts, attempts, survivors and what it shows to whom, with at most n_c silos.
t comes from all silos of the roster (`rules.require_threshold`), so any two opened sums of a session share an honest
silo that helped to open both: 2t > n + n_c. That silo knows both, and refuses the second by (1). It also refuses where
the log does not name the first as it was: so whatever the silos of a sum were shown names every sum before it, and (2)
holds over all of them. `require_overlap` has the same of any two sessions; over three and more, each silo holds to (2)
over those that it was in itself. It fails only where a silo forgets: its journal must not be rolled back.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import Refused
from fedcollm_crypto.masking.conviction import SPOILING
from fedcollm_crypto.masking.exposure import Silos, exposes
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Expected, SiloPolicy
from fedcollm_crypto.masking.stages import Convicted, Enrolled, Heard, Released, StageEntry, Where


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a silo's journal tells of open sums, and of silos that were convicted of bad dealing.

    `spoiled` are the attempts whose sum could not be opened, since a convicted silo's shares did not fit.
    """

    sums: tuple[Released | Heard, ...]
    convicted: frozenset[PartyId]
    spoiled: frozenset[Where] = frozenset()
    sessions: tuple[Enrolled, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[StageEntry]) -> "Memory":
        """Gather it from a journal."""
        kept = tuple(entries)
        mine = {entry.where for entry in kept if isinstance(entry, Released)}
        return cls(
            sums=tuple(
                entry
                for entry in kept
                if isinstance(entry, Released) or (isinstance(entry, Heard) and entry.where not in mine)
            ),
            convicted=frozenset(entry.party for entry in kept if isinstance(entry, Convicted)),
            sessions=tuple(entry for entry in kept if isinstance(entry, Enrolled)),
            spoiled=frozenset(e.where for e in kept if isinstance(e, Convicted) and e.fault in SPOILING),
        )

    def of_version(self, manifest: RoundManifest, linear_pass: int) -> list[Released | Heard]:
        """Return the sums of a manifest's model version and of one pass.

        An equal adapter is the same version in any session: from it, training without differential privacy may give
        the same update again. With it, each session draws its own noise, for which the ledger pays.
        """
        return [
            one
            for one in self.sums
            if (one.model_version, one.where.linear_pass) == (manifest.adapter_hash, linear_pass)
            and (one.where.session_id == manifest.session_id or not (one.dp_plan_hash or manifest.dp_plan_hash))
        ]

    def without_convicted(self, survivors: Collection[PartyId]) -> Silos:
        """Return a set less whom this silo knows to be convicted."""
        return frozenset(survivors) - self.convicted


def require_overlap(manifest: RoundManifest, members: Collection[PartyId], policy: SiloPolicy, memory: Memory) -> None:
    """Stop a session whose sums could share no honest silo with those of another session that this silo was in.

    Of all N silos of both, t and t' open a sum: t + t' > N + n_c leaves one that knows of both. A session among fewer
    of the same silos therefore needs a higher t; `members` are all silos of this session's roster.
    """
    if manifest.dp_plan_hash:
        return
    for other in memory.sessions:
        if other.where.session_id == manifest.session_id or other.dp_plan_hash:
            continue
        needed = int(other.least)
        silos = len({*other.members, *members})
        if manifest.threshold + needed <= silos + policy.colluding:
            raise Refused(
                "other_session",
                f"t is {manifest.threshold}; beside the session of {len(other.members)} silos that this one was in, at "
                f"least {silos + policy.colluding - needed + 1} are needed: else no silo would know the sums of both",
            )


def require_unreleased(manifest: RoundManifest, memory: Memory) -> None:
    """Stop a second sum over one model version before it begins: the difference of two sums is somebody's update.

    One case is left: a sum that could not be opened, since a silo had dealt bad shares. That silo knows its own update,
    and in league with the server the sum as well; so over the same silos without it, which send the same vectors,
    nothing new can be learned.
    """
    for one in memory.of_version(manifest, manifest.linear_pass):
        if one.where.session_id != manifest.session_id or not isinstance(one, Released):
            continue  # the survivors tell: `require_one_dimension`
        if one.where not in memory.spoiled or memory.without_convicted(one.survivors) != frozenset(manifest.cohort):
            raise Refused("released", "this silo helped to open a sum for this model version: no second one")
    if manifest.linear_pass and not any(
        isinstance(one, Released)
        and (one.where.session_id, one.where.round) == (manifest.session_id, manifest.round)
        and one.survivors == manifest.cohort
        for one in memory.of_version(manifest, manifest.linear_pass - 1)
    ):
        raise Refused("other_pass", "a further pass needs the pass before it, over exactly the same silos")


def require_pass_cohort(manifest: RoundManifest, survivors: Collection[PartyId]) -> None:
    """Stop a further pass over fewer silos than the first."""
    if manifest.linear_pass and set(survivors) != set(manifest.cohort):
        raise Refused("other_pass", "all passes of one model version must be over the same silos: the round is void")


def require_one_dimension(manifest: RoundManifest, survivors: Collection[PartyId], memory: Memory) -> None:
    """(1) Stop a sum over another set than an earlier one of the same model version and pass, in any session."""
    for one in memory.of_version(manifest, manifest.linear_pass):
        if memory.without_convicted(one.survivors) != memory.without_convicted(survivors):
            raise Refused(
                "other_set",
                "a sum for this model version was opened over other silos: the two together would tell of the silos "
                "in which they differ. Begin from another adapter, or with the same silos",
            )


def limit_exposure(manifest: RoundManifest, survivors: Collection[PartyId], policy: SiloPolicy, memory: Memory) -> None:
    """(2) Stop a series of sums that together tell of fewer than n_c + 2 silos, beyond what the policy bears with."""
    if manifest.dp_plan_hash:
        return
    sets = [frozenset(one.survivors) for one in memory.sums if not one.dp_plan_hash] + [frozenset(survivors)]
    exposing = _exposing(sets, policy.colluding + 2, memory.convicted)
    if exposing[-1] and sum(exposing) > policy.max_single_changes:
        raise Refused(
            "cohort_changes",
            f"without differential privacy this silo bears with {policy.max_single_changes} sums that, with earlier "
            f"ones, tell of fewer than {policy.colluding + 2} silos; this would be one more",
        )


def require_noise_shares(manifest: RoundManifest, expected: Expected, policy: SiloPolicy) -> None:
    """(3) Stop a sum that may hold fewer honest noise shares than the privacy plan counts on.

    At least one share is never counted: every silo knows its own, and sees the mean.
    """
    honest = manifest.floor - max(1, policy.colluding)
    if honest < expected.noise_shares:
        raise Refused(
            "too_little_noise",
            f"the plan counts on the noise of {expected.noise_shares} honest silos, and with max(t, k_min) = "
            f"{manifest.floor} there may be {honest}",
        )


def _exposing(sets: Sequence[Silos], fewest: int, convicted: Silos) -> list[bool]:
    """Say of each sum whether it takes part in a combination, with those before it, over fewer than `fewest` silos."""
    seen: set[Silos] = set()
    found: list[bool] = []
    for each in sets:
        found.append(exposes(frozenset(seen), each, fewest, convicted))
        seen.add(each)
    return found
