"""Settings of protection: the aggregation, whom it withstands, and privacy, whose numbers have no default."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fedcollm_crypto.names import check_name
from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import ONE_OF, Setting, Several, Text


@dataclass(frozen=True, kw_only=True)
class Grid(Setting):
    """Fixed point: each coordinate of an update is clipped to ±`clip` and sent as a `bits`-bit integer."""

    clip: float = 1.0
    bits: int = 24

    def __post_init__(self) -> None:
        """Refuse a grid that holds nothing."""
        require(0 < self.clip < float("inf"), f"clip: expected a positive number, got {self.clip}")
        require(2 <= self.bits <= 32, f"bits: expected 2 to 32, got {self.bits}")


@dataclass(frozen=True, kw_only=True)
class Masked(Grid):
    """Secure aggregation by double masking (Bonawitz et al., CCS 2017)."""

    tag: ClassVar[str] = "masked"


@dataclass(frozen=True, kw_only=True)
class Encrypted(Grid):
    """A grid whose integers are encrypted under the key of `decryptor`, a party of its own.

    `degree` and `primes` are the lattice's; less than 128 bits of security are refused.
    """

    bits: int = 16
    decryptor: Text = "decryptor"
    degree: int = 8192
    primes: Several[int] = (60, 60)

    def __post_init__(self) -> None:
        """Refuse a decryptor whose name cannot be a folder's."""
        super().__post_init__()
        try:
            check_name(self.decryptor)
        except ValueError as error:
            raise ValueError(f"decryptor: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Bfv(Encrypted):
    """Double masks inside BFV ciphertexts: the server adds, the decryptor opens one sum and sees uniform values."""

    tag: ClassVar[str] = "bfv"


@dataclass(frozen=True, kw_only=True)
class Ckks(Encrypted):
    """CKKS in exact-integer mode: the decryptor is a trusted aggregator, which could read every silo's update."""

    tag: ClassVar[str] = "ckks"


@dataclass(frozen=True, kw_only=True)
class UnsafePlain(Grid):
    """No protection: the server sees every silo's update. For comparisons only."""

    tag: ClassVar[str] = "unsafe_plain"


Aggregation = Masked | Bfv | Ckks | UnsafePlain


@dataclass(frozen=True, kw_only=True)
class Security(Setting):
    """Whom the aggregation must withstand; threshold and smallest cohort follow (`crypto/README.md`).

    `post_quantum`: ML-KEM-768 and ML-DSA-44 beside X25519 and Ed25519, against whoever records today's traffic.
    """

    adversary: Literal["malicious", "semi_honest"] = "malicious"
    colluding: int = 1
    min_cohort: int = 3
    allow_two_party: bool = False
    post_quantum: bool = False

    def __post_init__(self) -> None:
        """Refuse a cohort in which one honest silo would stand alone in the sum."""
        require(self.colluding >= 0, f"colluding: expected 0 or more, got {self.colluding}")
        require(self.min_cohort >= 2, f"min_cohort: expected 2 or more, got {self.min_cohort}")
        require(
            self.allow_two_party or self.min_cohort >= max(3, self.colluding + 2),
            f"min_cohort: expected at least max(3, colluding + 2) = {max(3, self.colluding + 2)}, got "
            f"{self.min_cohort}: with fewer, colluding members can compute one silo's update from the sum; "
            "raise min_cohort, or say allow_two_party: true where that is accepted",
        )


@dataclass(frozen=True, kw_only=True)
class Gates(Setting):
    """What a round's result must pass; a rejected round keeps the last good adapter (`federation/gates.py`).

    `max_norm`: of the mean update, L2. `max_loss_increase`: of the SLM on the auxiliary set, in nats. `trust_region`:
    how far B·A of a module may be from the aggregate's, relative to it, when the server sends it back; silos check it.
    """

    max_norm: float | None = None
    max_loss_increase: float | None = None
    trust_region: float | None = None

    def __post_init__(self) -> None:
        """Refuse a gate that nothing could pass."""
        for name in ("max_norm", "max_loss_increase", "trust_region"):
            value = getattr(self, name)
            require(value is None or 0 < value < float("inf"), f"{name}: expected a positive number, got {value}")


@dataclass(frozen=True, kw_only=True)
class Audit(Setting):
    """What is kept for an auditor beside the log.

    `archive`: every byte that the silos sent in a masked round, so that anybody can add up again.
    """

    archive: bool = False


@dataclass(frozen=True, kw_only=True)
class PerRecord(Setting):
    """Protect one training record."""

    tag: ClassVar[str] = "record"


@dataclass(frozen=True, kw_only=True)
class PerSubject(Setting):
    """Protect a person with all records: those of one silo with the same text in `column`."""

    tag: ClassVar[str] = "subject"

    column: Text


Unit = PerRecord | PerSubject


@dataclass(frozen=True, kw_only=True)
class RecordDP(Setting):
    """DP-SGD in each silo at (ε, δ) over the whole run, per silo; `silo.batch_size` is the public normaliser.

    `noise_multiplier` is calibrated to the plan unless given; given, the ledger stops the silo where ε runs out.
    Under `unit: {subject: column}` a person is drawn and clipped as one, with at most `records_per_subject` records;
    `silos_per_subject` states in how many silos a person's records may lie: 1 where silos hold different persons.
    """

    tag: ClassVar[str] = "record_dp"

    epsilon: float
    delta: float
    clip_norm: float
    sampling_rate: float
    noise_multiplier: float | None = None
    unit: Annotated[Unit, ONE_OF] = PerRecord()
    records_per_subject: int = 32  # bounds the work of a step; privacy does not need it
    silos_per_subject: int | None = None
    noise: Literal["own", "joint"] = "own"  # own: each silo's noise is enough by itself; joint: all silos share one
    gradients: Literal["linear", "opacus"] = (
        "linear"  # who takes each record's: linear layers alone, or Opacus any layer
    )

    def __post_init__(self) -> None:
        """Refuse parameters for which no guarantee exists."""
        require(0 < self.epsilon < float("inf"), f"epsilon: expected a positive number, got {self.epsilon}")
        require(0 < self.delta < 1, f"delta: expected a number in (0, 1), got {self.delta}")
        require(0 < self.clip_norm < float("inf"), f"clip_norm: expected a positive number, got {self.clip_norm}")
        require(0 < self.sampling_rate <= 1, f"sampling_rate: expected a number in (0, 1], got {self.sampling_rate}")
        require(
            self.noise_multiplier is None or 0 < self.noise_multiplier < float("inf"),
            f"noise_multiplier: expected a positive number, got {self.noise_multiplier}",
        )
        self._check_unit()

    def _check_unit(self) -> None:
        require(
            self.records_per_subject > 0, f"records_per_subject: expected 1 or more, got {self.records_per_subject}"
        )
        if isinstance(self.unit, PerRecord):
            require(
                self.silos_per_subject is None,
                "silos_per_subject: a record lies in one silo; it belongs to unit: {subject: COLUMN}",
            )
            return
        require(
            self.noise == "own" or self.silos_per_subject == 1,
            "silos_per_subject: expected 1 under noise: joint, whose one sum a person of several silos would enter "
            f"several times; got {self.silos_per_subject}",
        )
        require(
            self.silos_per_subject is not None and self.silos_per_subject > 0,
            "silos_per_subject: under unit: {subject: …} state in how many silos one person's records may lie: 1 where "
            f"silos hold different persons, up to the number of silos where they may share them; got "
            f"{self.silos_per_subject}",
        )


@dataclass(frozen=True, kw_only=True)
class SiloDP(Setting):
    """Protect a silo's whole contribution at (ε, δ) over the run: its update clipped, integer noise in shares.

    A plan whose noise would drown the sum of all silos' updates is refused: below `least_signal_to_noise` a round (the
    best case: all updates point one way at full length) nothing is learned.
    """

    tag: ClassVar[str] = "silo_dp"

    epsilon: float
    delta: float
    clip_norm: float
    least_signal_to_noise: float = 0.5

    def __post_init__(self) -> None:
        """Refuse parameters for which no guarantee exists."""
        require(0 < self.epsilon < float("inf"), f"epsilon: expected a positive number, got {self.epsilon}")
        require(0 < self.delta < 1, f"delta: expected a number in (0, 1), got {self.delta}")
        require(0 < self.clip_norm < float("inf"), f"clip_norm: expected a positive number, got {self.clip_norm}")
        require(
            self.least_signal_to_noise >= 0,
            f"least_signal_to_noise: expected 0 or more, got {self.least_signal_to_noise}",
        )


@dataclass(frozen=True, kw_only=True)
class NonPrivate(Setting):
    """No differential privacy: the aggregate and the models may reveal records. Said in every report."""

    tag: ClassVar[str] = "non_private"


Privacy = RecordDP | SiloDP | NonPrivate


@dataclass(frozen=True, kw_only=True)
class LocalEngine(Setting):
    """All silos in this process: a simulation. Their ledgers live in the run directory and say so."""

    tag: ClassVar[str] = "local"


Engine = LocalEngine
