"""Silos that decide by their own rule functions, and what they remember when a server asks: for `strategies`.

a silo       `silo_stages.check_round`, `check_sum` and `unseen_lines.require_logged`, on a memory of its own
opened       when t silos, those in league among them, reveal
broken       two sums of one version over different silos; or a combination of sums over fewer than n_c + 2 silos
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import Refused
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import silo_stages
from fedcollm_crypto.masking.exposure import Silos, exposes
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, SiloPolicy
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import Answered, Enrolled, Heard, MemoryStages, Released, StageEntry, Where
from fedcollm_crypto.roster import Roster
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER, as_member, silo_names
from fedcollm_secure.audit_log.events import SumAgreed
from fedcollm_secure.audit_log.unseen_lines import require_logged

QUANTISATION = Quantisation(ring_bits=64, bits=16, clip=1.0, max_weight=1, length=3)
HASH = "ab" * 32


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt as the server chooses it; `version` 0 is the first adapter, the same in every session."""

    session: int
    version: int
    survivors: Silos
    threshold: int
    asked: Silos
    logged: bool = True


@dataclass(frozen=True, kw_only=True)
class World:
    """What has been opened, what each session's log names, and what each honest silo remembers."""

    opened: tuple[Attempt, ...] = ()
    memories: Mapping[PartyId, tuple[StageEntry, ...]] = field(default_factory=dict[PartyId, tuple[StageEntry, ...]])


class Region:
    """Silos of which the last are in league with the server, and the sessions between them."""

    def __init__(self, silos: int, members_of: Sequence[Silos], *, colluding: int = 1) -> None:
        """Draw keys, with which nothing is signed; no silo bears with an exception. `members_of`: of each session."""
        self.names = silo_names(silos)
        self.in_league = frozenset(self.names[silos - colluding :])
        self.honest = [name for name in self.names if name not in self.in_league]
        self.colluding = colluding
        self._manifests: dict[tuple[object, ...], RoundManifest | None] = {}
        self._decided: dict[tuple[object, ...], tuple[tuple[StageEntry, ...] | None, tuple[StageEntry, ...]]] = {}
        self.policy = SiloPolicy(min_cohort=max(3, colluding + 2), colluding=colluding, max_single_changes=0)
        server = as_member(Identity.generate(SERVER), "server")
        self._keys = {name: Identity.generate(name) for name in self.names}
        members = {name: as_member(key, "silo") for name, key in self._keys.items()}
        self.rosters = [
            Roster(consortium_id="small", epoch=1, members=(*(members[n] for n in sorted(who)), server), policy={})
            for who in members_of
        ]

    def choices(self, world: World) -> Iterator[Attempt]:
        """Yield every attempt that could open a sum, were the silos to agree."""
        for session, roster in enumerate(self.rosters):
            members = sorted(roster.of_role("silo"))
            for size in range(2, len(members) + 1):
                for cohort in itertools.combinations(members, size):
                    yield from self._over(world, session, frozenset(cohort))

    def play(self, world: World, attempt: Attempt) -> World | None:
        """Ask the silos; return what has become of the world, None where not enough agree."""
        number = 1 + sum(one.session == attempt.session for one in world.opened)
        terms = (attempt.session, attempt.version, attempt.survivors, attempt.threshold, number)
        if terms not in self._manifests:
            self._manifests[terms] = self._manifest(attempt, number)
        manifest = self._manifests[terms]
        if manifest is None:
            return None
        heard = self._told(world, attempt)
        memories = dict(world.memories)
        for party in sorted(attempt.survivors - self.in_league):
            memory, reveals = memories.get(party, ()), party in attempt.asked
            case = (party, id(memory), terms, heard, reveals)
            if case not in self._decided:  # the same silo was asked the same with the same in mind, in another strategy
                remembered = self._answer(party, manifest, attempt, memory, heard, reveals=reveals)
                self._decided[case] = remembered, memory
            if (remembered := self._decided[case][0]) is None:
                return None
            memories[party] = remembered
        return World(opened=(*world.opened, attempt), memories=memories)

    def is_broken(self, world: World) -> bool:
        """Say whether the sums together tell more than they may; who is in league is known, and counts as nothing."""
        sums = [(one, one.survivors - self.in_league) for one in world.opened]
        if any(_two_dimensions(*pair) for pair in itertools.combinations(sums, 2)):
            return True
        sets = [honest for _, honest in sums]
        return any(exposes(frozenset(sets[:i]), each, 2) for i, each in enumerate(sets))

    def _over(self, world: World, session: int, survivors: Silos) -> Iterator[Attempt]:
        """Yield each attempt over these silos: t as of the roster or of the cohort, and exactly t of them asked."""
        known = {one.version for one in world.opened if one.session == session}
        versions = sorted({0, *known, len(world.opened) + 1} if world.opened else {0})
        needed, others = sorted(survivors & self.in_league), sorted(survivors - self.in_league)
        members = len(self.rosters[session].of_role("silo"))
        for t in sorted({self._threshold(len(survivors)), self._threshold(members), len(survivors)}):
            if not len(needed) < t <= len(survivors):
                continue
            for asked in itertools.combinations(others, t - len(needed)):
                for version, logged in itertools.product(versions, (True, False)):
                    yield Attempt(
                        session=session,
                        version=version,
                        survivors=survivors,
                        threshold=t,
                        asked=frozenset((*asked, *needed)),
                        logged=logged,
                    )

    def _threshold(self, silos: int) -> int:
        try:
            return threshold(silos, self.colluding, "malicious")
        except ValueError:
            return silos

    def _manifest(self, attempt: Attempt, number: int) -> RoundManifest | None:
        roster, cohort = self.rosters[attempt.session], tuple(sorted(attempt.survivors))
        try:
            return RoundManifest(
                consortium_id="small",
                epoch=1,
                session_id=f"session-{attempt.session}",
                round=number,
                attempt=1,
                server=SERVER,
                cohort=cohort,
                roster_hash=roster.hash,
                policy_hash=roster.policy_hash,
                base_model_hash=HASH,
                adapter_hash=_adapter(attempt),
                lora_schema_hash=HASH,
                train_cfg_hash=HASH,
                dp_plan_hash="",
                quantisation=QUANTISATION,
                adversary="malicious",
                colluding=self.colluding,
                k_min=min(len(cohort), self.policy.min_cohort),
                threshold=attempt.threshold,
            )
        except ValueError:
            return None

    def _told(self, world: World, attempt: Attempt) -> tuple[SumAgreed, ...]:
        """Return the sums that the log of this session names."""
        mine = [one for one in world.opened if one.session == attempt.session]
        return tuple(_agreed(number, one) for number, one in enumerate(mine, start=1) if one.logged)

    def _answer(
        self,
        party: PartyId,
        manifest: RoundManifest,
        attempt: Attempt,
        memory: tuple[StageEntry, ...],
        told: tuple[SumAgreed, ...],
        *,
        reveals: bool,
    ) -> tuple[StageEntry, ...] | None:
        """Return what a silo remembers once it has uploaded, or revealed as well; None where it refuses."""
        stages = MemoryStages()
        for entry in memory:
            stages.append(entry)
        setup = self._setup(party, manifest, stages)
        heard = {entry.where for entry in memory if isinstance(entry, Heard)}
        mine = [
            entry
            for entry in memory
            if isinstance(entry, Released)
            and entry.where.session_id == manifest.session_id
            and entry.where not in heard
        ]
        try:
            silo_stages.check_round(manifest, _expected(manifest), setup, Memory.of(stages.entries()))
            require_logged(mine, told)
            for one in told:
                where = Where(session_id=manifest.session_id, round=one.round, attempt=1, linear_pass=0)
                if where not in heard:
                    stages.append(
                        Heard(where=where, model_version=one.adapter_digest, survivors=one.survivors, dp_plan_hash="")
                    )
            if reveals:
                silo_stages.check_sum(manifest, attempt.survivors, self.policy, Memory.of(stages.entries()))
        except Refused:
            return None
        where = Where.of(manifest)
        if not any(isinstance(entry, Enrolled) and entry.where.session_id == manifest.session_id for entry in memory):
            members = tuple(sorted(setup.roster.of_role("silo")))
            least = str(self._threshold(len(members)))
            stages.append(Enrolled(where=where, members=members, least=least, dp_plan_hash=""))
        stages.append(Answered(where=where, stage="manifest", request_hash="", members=manifest.cohort))
        if reveals:
            stages.append(_released(manifest, attempt))
        return tuple(stages.entries())

    def _setup(self, party: PartyId, manifest: RoundManifest, stages: MemoryStages) -> SiloSetup:
        roster = self.rosters[int(manifest.session_id.rpartition("-")[2])]
        return SiloSetup(identity=self._keys[party], roster=roster, policy=self.policy, stages=stages)


def _expected(manifest: RoundManifest) -> Expected:
    """Return what a silo computed itself: it expects any adapter."""
    return Expected(
        session_id=manifest.session_id,
        base_model_hash=HASH,
        adapter_hash=manifest.adapter_hash,
        lora_schema_hash=HASH,
        train_cfg_hash=HASH,
        dp_plan_hash="",
        quantisation=QUANTISATION,
    )


def _two_dimensions(one: tuple[Attempt, Silos], other: tuple[Attempt, Silos]) -> bool:
    """Say whether two sums of one version are over different silos; of two sessions, only where they share one."""
    if _adapter(one[0]) != _adapter(other[0]) or one[1] == other[1]:
        return False
    return one[0].session == other[0].session or bool(one[1] & other[1])


def _released(manifest: RoundManifest, attempt: Attempt) -> Released:
    return Released(
        where=Where.of(manifest),
        model_version=manifest.adapter_hash,
        survivors=tuple(sorted(attempt.survivors)),
        dp_plan_hash="",
    )


@cache
def _agreed(number: int, attempt: Attempt) -> SumAgreed:
    return SumAgreed(
        round=number,
        attempt=1,
        linear_pass=0,
        adapter_digest=_adapter(attempt),
        survivors=tuple(sorted(attempt.survivors)),
    )


def _adapter(attempt: Attempt) -> str:
    """Name the adapter: the first one is public, later ones are of a session."""
    version = (0, 0) if not attempt.version else (attempt.session + 1, attempt.version)
    return f"{version[0]:032x}{version[1]:032x}"
