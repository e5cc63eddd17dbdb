"""What the span of an update gives away, at each layer of protection: the two sides of attack A1, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, as_update
from fedcollm_secure.assurance.attacks.attack_outcome import Outcome
from fedcollm_secure.assurance.attacks.gradient_spans import Shape, World
from fedcollm_secure.assurance.attacks.malicious_server import Mallory
from fedcollm_secure.config.training import LocalTraining

RECORDS: Mapping[str, Sequence[tuple[str, str]]] = {
    "silo-01": [("Acute myocardial infarction. Specialty:", " cardiology"), ("Otitis media. Specialty:", " otology")],
    "silo-02": [("Fracture of left femur. Specialty:", " trauma"), ("Gastric ulcer. Specialty:", " gastroenterology")],
    "silo-03": [("Chronic kidney failure. Specialty:", " urology"), ("Viral pneumonia. Specialty:", " pulmonology")],
    "silo-04": [("Postpartum depression. Specialty:", " psychiatry"), ("Burn of right hand. Specialty:", " emergency")],
    "silo-05": [
        ("Malignant tumour of breast. Specialty:", " oncology"),
        ("Retinal tear. Specialty:", " ophthalmology"),
    ],
}
SILOS = tuple(RECORDS)
VICTIM = SILOS[0]
SUMS = (3, 5)
EPSILON, STEPS = 8.0, 5
UNLIKELY = 1e-6
HEADER = ("what the server holds", "tokens", "read back", "by chance")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One line of the table: of `tokens` distinct ones `found` were among as many that the attacker named."""

    what: str
    tokens: int
    found: int
    vocabulary: int

    @property
    def is_chance(self) -> bool:
        """Whether naming tokens blindly does as well with probability above 10^-6 (hypergeometric)."""
        return float(hypergeom.sf(self.found - 1, self.vocabulary, self.tokens, self.tokens)) > UNLIKELY

    def as_row(self) -> tuple[str, ...]:
        """Return the line as text."""
        return self.what, str(self.tokens), str(self.found), f"{self.tokens**2 / self.vocabulary:.2f}"


def in_the_clear() -> Outcome:
    """Read one silo's update that nothing protects."""
    adamw_steps = LocalTraining(steps=STEPS, batch_size=2, learning_rate=3e-3)
    plain = _read("one silo's update", World(RECORDS, Shape()), [VICTIM])
    adamw = _read("one silo's update by AdamW", World(RECORDS, Shape(training=adamw_steps)), [VICTIM])
    b_alone = [
        _read(f"one silo's B alone (FFA), rank {rank}", World(RECORDS, Shape(rank=rank, factors="ffa")), [VICTIM])
        for rank in (32, 8)
    ]
    succeeded = plain.found >= 0.9 * plain.tokens
    return Outcome(
        succeeded=succeeded,
        reason="" if succeeded else "not_found",
        told=f"{plain.found} of the {plain.tokens} tokens of a silo's two records are read back from its update",
        figures={"tokens": plain.tokens, "recovered": plain.found, "recovered_adamw": adamw.found},
        table=_table([plain, adamw, *b_alone]),
    )


def protected() -> Outcome:
    """Read a masked upload and what unmasking gives; then the same under DP-SGD."""
    upload, sums = _under_masks()
    noised = World(RECORDS, Shape(plan=_plan()))
    under_dp = [
        _read(f"one silo's update under DP-SGD (ε = {EPSILON:g})", noised, [VICTIM]),
        *(_read(f"the sum of {count} silos under DP-SGD", noised, SILOS[:count]) for count in SUMS),
    ]
    hidden = [upload, *under_dp]
    return Outcome(
        succeeded=not all(reading.is_chance for reading in hidden),
        reason="masked, noised",
        told=(
            "a masked upload, and all that is left of words under DP-SGD, are worth a blind guess. What remains "
            f"without DP: masks hide whose words they are, but the sum of {SUMS[-1]} silos still gives "
            f"{sums[-1].found} of {sums[-1].tokens} tokens"
        ),
        figures={
            "recovered_masked_upload": upload.found,
            "recovered_under_dp": under_dp[0].found,
            **{f"recovered_sum_of_{count}": reading.found for count, reading in zip(SUMS, sums, strict=True)},
            **{f"tokens_sum_of_{count}": reading.tokens for count, reading in zip(SUMS, sums, strict=True)},
        },
        table=_table([upload, *sums, *under_dp]),
    )


def _under_masks() -> tuple[Reading, list[Reading]]:
    """Play masked rounds: read the victim's upload as if it were its update, then the sums that come out."""
    world = World(RECORDS, Shape())
    updates = {silo: world.update(silo) for silo in SILOS}
    sums: list[Reading] = []
    upload: Reading | None = None
    for count in SUMS:
        cohort = SILOS[:count]
        consortium = Consortium({silo: updates[silo] for silo in cohort})
        mallory = Mallory(consortium, consortium.manifest())
        mallory.collect()
        words = as_update(mallory.words[VICTIM], consortium.encoding)
        upload = upload or _reading("one silo's masked upload", world, words, [VICTIM])
        total = as_update(mallory.open_honestly(cohort), consortium.encoding)
        sums.append(_reading(f"the sum of {count} silos out of the masks", world, total, cohort))
    if upload is None:
        raise RuntimeError("no round was played: SUMS is empty")
    return upload, sums


def _read(what: str, world: World, silos: Sequence[str]) -> Reading:
    """Train these silos and read the sum of their updates."""
    total = np.sum([world.update(silo).astype(np.float64) for silo in silos], axis=0)
    return _reading(what, world, total, silos)


def _reading(what: str, world: World, seen: NDArray[np.float64], silos: Sequence[str]) -> Reading:
    found = world.recovered(seen, silos)
    return Reading(what=what, tokens=len(world.tokens(silos)), found=found, vocabulary=world.vocabulary)


def _table(readings: Sequence[Reading]) -> tuple[tuple[str, ...], ...]:
    return (HEADER, *(reading.as_row() for reading in readings))


def _plan() -> RecordPlan:
    return RecordPlan.calibrated(
        epsilon=EPSILON,
        delta=1e-5,
        clip_norm=1.0,
        sampling_rate=1.0,
        steps_per_round=STEPS,
        rounds=1,
        batch_size=2,
    )
