"""What a silo insists on, from its own files, whatever the server proposes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.masking.manifest import Adversary, Quantisation, RoundManifest


@dataclass(frozen=True, kw_only=True)
class SiloPolicy:
    """One silo's own limits.

    `min_cohort`: fewest silos in a sum it takes part in. `colluding`: n_c, how many other silos may be in league with
    the server. `adversary`: what the server may do. `min_threshold`: least t it accepts beside what n, n_c and the
    adversary ask for. `max_single_changes`: how many sums without differential privacy may tell, together with earlier
    ones, of fewer than n_c + 2 silos, as one does that a single silo left. `allow_two_party`: accept a cohort of two,
    where each silo can compute the other's update from the sum. `post_quantum`: take part in no round of the classical
    profile.
    """

    min_cohort: int = 3
    colluding: int = 1
    adversary: Adversary = "malicious"
    min_threshold: int = 2
    max_single_changes: int = 2
    allow_two_party: bool = False
    post_quantum: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that protect nobody."""
        if self.colluding < 0 or self.min_threshold < 2 or self.max_single_changes < 0:
            raise ValueError("colluding >= 0, min_threshold >= 2 and max_single_changes >= 0 are needed")
        if self.min_cohort < 3 and not self.allow_two_party:
            raise ValueError("min_cohort starts at 3; a cohort of two needs allow_two_party: true")
        if self.min_cohort < self.colluding + 2:
            raise ValueError(f"min_cohort must be at least colluding + 2 = {self.colluding + 2}: two honest silos")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the silo computed itself about the job it joined: the manifest must say the same.

    `decryptor` and `parameters_hash` are those of the encryption, empty where vectors travel without one.
    `noise_shares` is h, how many honest silos' noise the privacy plan counts on in each sum; 0 where each silo's own
    noise is enough, or none is added.
    """

    session_id: str
    base_model_hash: str
    adapter_hash: str
    lora_schema_hash: str
    train_cfg_hash: str
    dp_plan_hash: str
    quantisation: Quantisation
    decryptor: PartyId = ""
    parameters_hash: str = ""
    noise_shares: int = 0


@dataclass(frozen=True, kw_only=True)
class Pledge:
    """What a silo puts into its hello besides keys: its ledger's reservation and its cosignature of the log."""

    ledger_reservation_hash: str = ""
    cosignature: str = ""


Expect = Callable[[RoundManifest], Expected]
"""Given (round, pass) by a manifest, say what this silo computed itself of it; nothing else of it is to be believed."""


def always(expected: Expected) -> Expect:
    """Expect the same of every manifest: for one round of one pass."""
    return lambda _: expected


Admit = Callable[[RoundManifest], Pledge]
"""Called once for a manifest that passed every rule of the protocol; may raise `Refused`, e.g. for a spent budget.

Here, and not before, a caller acts: it cosigns the log, and reserves its budget.
"""


def no_pledge(_: RoundManifest) -> Pledge:
    """Pledge nothing: for jobs without ledger and log."""
    return Pledge()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A silo's part in one round: what it holds a manifest to, what it does before it joins, and what it gives.

    `vector` is called once, when the vector is first needed: a silo may train there.
    """

    expected: Expect
    vector: Callable[[], Vector] = field(repr=False)
    admit: Admit = no_pledge
