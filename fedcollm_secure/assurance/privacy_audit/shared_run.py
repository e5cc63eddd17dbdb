"""A watched run in which silos share one noise, as the worst coalition that the plan bears sees it.

Of the silos in a sum `honest` keep their shares to themselves. All others are taken to be in league with the server:
whatever they sent, noise included, is taken off the sum. What a silo sends by itself is masked, so there is no point
"update" here; its share alone would be too little noise for it.

| check | what is compared | broken by |
|---|---|---|
| share | each silo's noise in the run, with v of the plan | no noise, or too small a share |
| noise | the honest silos' shares together, of one round against another's | shares that are correlated or repeat |
| empty batches | the share of a silo that draws nobody | a silo that draws nobody and adds nothing |
| second look | what a silo sends when it is asked for one round again | noise that is drawn afresh |
| sent | the integers that went out, less the share, with what training came to | a share that is drawn and not added |
| steps | how many sums a silo enters | one more than is charged |
| all of `noise_checks` | every share of every silo in every round, and the first ones drawn again | see there |
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.false_alarms import ALARM, mean_square
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.noise_checks import noise_checks
from fedcollm_secure.assurance.privacy_audit.noise_draws import Draw, Float64, Table, whole_tables
from fedcollm_secure.assurance.privacy_audit.observed_shares import Int64, Uploads, observe
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Canaries, Seen
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Watch
from fedcollm_secure.assurance.privacy_audit.planted_run import ROUNDS, PlantedRun
from fedcollm_secure.assurance.privacy_audit.shared_mechanism import noise_std, share_variance
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places
from fedcollm_secure.assurance.privacy_audit.watched_run import copies_check

SCALING_SHARES = 12
"""Further shares of each honest silo, by which a coordinate's own noise is measured for the canaries' scores."""

ROUNDED = 1e-3
"""A share's variance is rounded up to a whole number."""


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """`honest`: as many silos as the plan counts on, the audited one first; `empty`: one that drew nobody, or "".

    `again`: shares that silos drew apart from the run, by silo and round.
    """

    uploads: Uploads
    honest: Sequence[str]
    empty: str
    seen: Mapping[str, Seen] = field(repr=False)  # at each point, larger where a canary is in
    again: Mapping[tuple[str, int], Int64] = field(repr=False)
    copied: Check | None
    variance: int  # of one share, as the audit derives it
    places: Places

    @property
    def rounds(self) -> list[int]:
        """Return the rounds whose noise was looked at."""
        return sorted({number for _, number in (*self.uploads.shares, *self.again)})

    @cached_property
    def tables(self) -> list[Table]:
        """Return every share of every silo, in units of √v."""
        # Spread evenly over its step, a whole number has a twelfth more of variance.
        scale = math.sqrt(self.variance + 1 / 12)
        in_the_run = [
            self._draw(key, share / scale, step, again=False)
            for key, shares in self.uploads.shares.items()
            for step, share in enumerate(shares, start=1)
        ]
        again = [self._draw(key, share / scale, 1, again=True) for key, share in self.again.items()]
        return whole_tables([*in_the_run, *again], 1 / scale)

    def _draw(self, key: tuple[str, int], values: Float64, step: int, *, again: bool) -> Draw:
        whole = len(values) == self.places.length
        noise = self.places.cut(values) if whole else {f"the {len(values)} entries": values}
        return Draw(silo=key[0], round=key[1], step=step, noise=noise, again=again)


def shared_run(prepared: Prepared, silo: str, plan: SharedPlan, canaries: Canaries | None) -> SharedRun:
    """Run the job, with canaries in `silo` where units are smaller than silos."""
    names = [silo, *(name for name in prepared.silos if name != silo)]
    honest, colluding = names[: plan.honest], names[plan.honest :]
    empty = names[-1] if plan.sampling_rate < 1 else ""
    watch = Watch()
    planted = PlantedRun.of(prepared, silo, canaries, watch, empty=empty)
    before = prepared.server_slm.read().astype(np.float64)
    with ExitStack() as stack:
        uploads = observe(stack, prepared.encoding)
        stack.enter_context(watch.opened())
        planted.run()
    seen = {"model": Seen(shown=before - prepared.server_slm.read())}
    if canaries is not None:
        left = np.sum(np.stack(watch.read_by_server), axis=0)  # Σ clip(∇) / batch_size over all silos, and noise
        for number in uploads.rounds:
            left = left - uploads.total(colluding, number) * prepared.encoding.grid
        noise = [uploads.sources[name](len(left)) for name in honest for _ in range(SCALING_SHARES)]
        seen = {"sum": Seen(shown=left, noise=_root_mean_square(noise)), **seen}
    return SharedRun(
        uploads=uploads,
        honest=honest,
        empty=empty,
        seen=seen,
        again=_again(planted, plan, uploads),
        copied=None if canaries is None else copies_check([planted]),
        variance=share_variance(prepared, plan),
        places=Places.of(prepared.server_slm.schema),
    )


def run_checks(prepared: Prepared, plan: SharedPlan, run: SharedRun) -> list[Check]:
    """Test every silo's shares in a run."""
    uploads, std = run.uploads, math.sqrt(run.variance)
    everything = [uploads.share(name, number) for name in prepared.silos for number in uploads.rounds]
    checks = [_spread("share", np.concatenate(everything) / std, "a silo's share of the noise is {:.3f} √v")]
    checks.append(_together(prepared, plan, uploads, run.honest))
    if run.empty:
        nobodys = np.concatenate([uploads.share(run.empty, number) for number in uploads.rounds]) / std
        checks.append(_spread("empty batches", nobodys, "a silo that draws nobody adds noise of {:.3f} √v"))
    checks += noise_checks(run.tables)
    again = max(len(vectors) for vectors in uploads.sent.values())
    looks = uploads.most_distinct if again > 1 else math.nan
    told = f"asked {again} times for one round, a silo sends {looks} different vector{'s' * (looks != 1)}"
    checks.append(Check(name="second look", measured=looks, low=1, high=1, told=told))
    checks.append(_sent(prepared, plan, run))
    rounds = min(ROUNDS, plan.rounds)
    taken = max(sum(name == silo for name, _ in uploads.sent) for silo in prepared.silos)
    told = f"a silo enters {taken} sums of {rounds} that are priced"
    checks.append(Check(name="steps", measured=taken, low=rounds, high=rounds, told=told))
    return [*checks, *([] if run.copied is None else [run.copied])]


def _sent(prepared: Prepared, plan: SharedPlan, run: SharedRun) -> Check:
    """Take each silo's share off what it sent: a clipped update is left, or nothing where all losses were hushed."""
    quiet = [name for name in prepared.silos if plan.unit == "silo" or name != run.honest[0]]
    left = [run.uploads.left(name, number) for name in quiet for number in run.uploads.rounds]
    length = max(float(np.linalg.norm(each)) * prepared.encoding.grid for each in left) / plan.sensitivity
    told = f"less its share, what a silo sends has a length of {length:.4f} C"
    return Check(name="sent", measured=length, low=0, high=1.0 if plan.unit == "silo" else 0.0, told=told)


def _again(planted: PlantedRun, plan: SharedPlan, uploads: Uploads) -> dict[tuple[str, int], Int64]:
    """Let every silo train and draw a share once more, in round 1 and in later rounds than the run came to."""
    start = planted.server_slm.read()
    later = {plan.rounds // 2 + 1, plan.rounds} if plan.rounds > ROUNDS else set[int]()
    found = dict[tuple[str, int], Int64]()
    for name in planted.silos:
        for number in sorted({1} | later):
            planted.learner(name).update(start, number)
            share = uploads.sources[name](len(uploads.share(name, uploads.rounds[0])))
            if share is not None:
                found[name, number] = share
    return found


def _root_mean_square(shares: Sequence[Int64 | None]) -> Float64 | None:
    drawn = [share.astype(np.float64) for share in shares if share is not None]
    if not drawn:
        return None
    found: Float64 = np.sqrt(np.mean(np.stack(drawn) ** 2, axis=0))
    return found


def _together(prepared: Prepared, plan: SharedPlan, uploads: Uploads, honest: Sequence[str]) -> Check:
    """Compare the honest silos' noise of two rounds (of one, where there is but one) with zS."""
    first, *later = [uploads.noise(honest, number) / noise_std(prepared, plan) for number in uploads.rounds]
    fresh = (first - later[0]) / math.sqrt(2) if later and later[0].shape == first.shape else first
    return _spread("noise", fresh, f"the shares of {len(honest)} honest silos add up to noise of {{:.3f}} zS")


def _spread(name: str, values: Float64, told: str) -> Check:
    """Compare the root mean square of values that should be standard normal with 1."""
    measured = float(np.sqrt(np.mean(values**2)))
    low, high = mean_square(len(values), ALARM)
    return Check(
        name=name,
        measured=measured,
        low=float(np.sqrt(low)) - ROUNDED,
        high=float(np.sqrt(high)) + ROUNDED,
        told=told.format(measured),
        alarm=ALARM,
    )
