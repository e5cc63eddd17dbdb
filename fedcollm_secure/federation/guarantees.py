"""The guarantees of one configuration: who can see what, and what holds, as `threat_model.md` has it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fedcollm_privacy.subjects import across_silos
from fedcollm_secure.config.protection import (
    Bfv,
    Ckks,
    Masked,
    NonPrivate,
    PerRecord,
    PerSubject,
    RecordDP,
    SiloDP,
    UnsafePlain,
)
from fedcollm_secure.config.schema import Config


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """One property, whether it holds in this configuration, and why or how far.

    `applies` is False where there is nothing that could be promised, such as a decryptor's sight without a decryptor.
    """

    property: str
    holds: bool
    why: str
    applies: bool = True

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map."""
        return asdict(self)


def guarantees(config: Config) -> list[Guarantee]:
    """Return what this configuration promises and what it does not."""
    aggregation, private = config.aggregation, not isinstance(config.privacy, NonPrivate)
    hidden = not isinstance(aggregation, UnsafePlain)
    malicious = hidden and config.security.adversary == "malicious"
    bound = f"with at most {_count(config.security.colluding, 'colluding silo')}"
    return [
        Guarantee(
            property="A silo's own update is hidden from a server that only looks",
            holds=hidden,
            why=f"{_lock(config)}; the server learns the sum alone, {bound}"
            if hidden
            else "updates travel in the clear",
        ),
        Guarantee(
            property="A silo's own update is hidden from a malicious server",
            holds=malicious,
            why=_against_malice(config) if malicious else "not promised by this profile",
        ),
        Guarantee(
            property="A silo's own update is hidden from the decryptor",
            holds=isinstance(aggregation, Bfv),
            why=_decryptor_sees(config),
            applies=isinstance(aggregation, Bfv | Ckks),
        ),
        Guarantee(
            property="Recorded traffic stays hidden from a later quantum computer",
            holds=_quantum_safe(config),
            why=_recorded(config),
        ),
        Guarantee(
            property="Record counts of a silo are hidden",
            holds=hidden or config.silo.weighting == "uniform",
            why="weights are equal and public" if config.silo.weighting == "uniform" else "the server learns Σw alone",
        ),
        Guarantee(
            property="Records are protected in the sum and in the final models",
            holds=private,
            why=_privacy(config),
        ),
        Guarantee(
            property="Persons are protected with all their records",
            holds=_protects_persons(config),
            why=_persons(config),
        ),
        Guarantee(
            property="A silo's whole contribution is protected in the sum",
            holds=isinstance(config.privacy, SiloDP),
            why=_privacy(config) if isinstance(config.privacy, SiloDP) else "the unit of privacy is smaller, or none",
        ),
        Guarantee(
            property="A privacy budget is enforced before each round",
            holds=private,
            why="a ledger per silo reserves the round or refuses" if private else "there is no budget to enforce",
            applies=private,
        ),
        Guarantee(
            property="Poisoned updates are kept out",
            holds=False,
            why="each coordinate is bounded and gates may reject a sum, but a silo can bias the model within these",
        ),
        Guarantee(
            property="The log shows every change made to it",
            holds=True,
            why="a chained Merkle log under signed checkpoints; a cut tail shows against any head that a silo holds",
        ),
        Guarantee(
            property="There is one log: no two that differ can both gather a quorum",
            holds=True,
            why=f"a silo cosigns only what grew out of its last head; {bound}",
        ),
    ]


def visible_to(config: Config, cohort: int) -> Mapping[str, str]:
    """Return what each party, or coalition, can see of a silo's data beyond the two final models."""
    n_c = config.security.colluding
    after = _after(config)
    if isinstance(config.aggregation, UnsafePlain):
        return {
            "server": f"every silo's update, {after}",
            "another silo": "the averaged adapter of each round",
            "network": "every silo's update, unless the channel is encrypted",
        }
    seen = {
        "server": f"the sum over {cohort} silos, {after}",
        f"server with up to {_count(n_c)}": f"the sum over the remaining {_count(cohort - n_c)}, {after}",
        f"server with more than {_count(n_c)}": "any silo's update, where they fill a cohort with it",
    }
    match config.aggregation:
        case Masked():
            network = "masked words that are uniform to it"
        case Bfv(decryptor=decryptor):
            seen |= {
                decryptor: "uniform values: the masked sum; neither an update nor the sum",
                f"server with {decryptor} and up to {_count(n_c)}": f"no more than without {decryptor}: the masks hold",
            }
            network = "ciphertexts of masked words"
        case Ckks(decryptor=decryptor):
            seen |= {
                decryptor: "every silo's update, if it wishes: it is a trusted aggregator",
                f"server with {decryptor}": f"every silo's update, {after}",
            }
            network = "ciphertexts, sealed to the decryptor"
    return seen | {"another silo": "the averaged adapter of each round", "network": network}


def warnings(config: Config, cohort: int) -> list[str]:
    """Return what a careful reader would want to be told before the run."""
    found: list[str] = []
    if isinstance(config.aggregation, UnsafePlain):
        found.append("unsafe_plain: the server sees each silo's update; use masked for anything but comparisons")
    if isinstance(config.aggregation, Ckks):
        found.append(
            f"ckks: {config.aggregation.decryptor} is a trusted aggregator that recomputes the sum and could read each "
            "silo's update, and alone remembers which sums it opened: keep one for all runs over the same records. bfv "
            "keeps masks inside the ciphertexts, so that nobody alone can, and its silos remember"
        )
    if isinstance(config.aggregation, Masked) and not config.security.post_quantum:
        found.append(
            "classical profile: whoever records the traffic and has a quantum computer later can read each silo's "
            "update; say security: {post_quantum: true}"
        )
    if isinstance(config.aggregation, UnsafePlain) and config.security.post_quantum:
        found.append("post_quantum protects masked sums alone: under unsafe_plain it changes nothing")
    if isinstance(config.privacy, NonPrivate):
        found.append(
            "non_private: sums and final models can reveal records; secure aggregation hides who, only DP hides what"
        )
    elif _weakest(config.privacy) > 10:
        found.append(f"epsilon {_weakest(config.privacy):g} is a weak promise; 1 to 8 is usual for text")
    if not isinstance(config.privacy, NonPrivate) and config.what_travels in ("fedavg", "exact"):
        found.append(f"factors: {config.what_travels} under DP multiplies the noise of A and B; ffa trains B alone")
    if config.splits is not None:
        found.append("splits are for compare, which runs each; here data.silos and data.auxiliary count")
    if cohort == 2:
        found.append("two parties: each can compute the other's update from the sum")
    if config.audit.archive:
        found.append(_archive(config))
    found.append("engine local: all silos run in this process; this is a simulation, not a deployment")
    return found


def _archive(config: Config) -> str:
    kept = "archive: all that the silos send is kept; say for how long. Its holder joins the server's collusion bound"
    if config.security.post_quantum:
        return kept
    return f"{kept}, and with a quantum computer reads each silo's update: say security: {{post_quantum: true}}"


def _count(number: int, of: str = "silo") -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _lock(config: Config) -> str:
    match config.aggregation:
        case Bfv(decryptor=decryptor):
            return f"double masks inside BFV ciphertexts, whose key {decryptor} alone holds"
        case Ckks(decryptor=decryptor):
            return f"CKKS ciphertexts, whose key {decryptor} alone holds"
        case _:
            return "double masks"


def _against_malice(config: Config) -> str:
    bound = f"with at most {_count(config.security.colluding, 'colluding silo')}"
    if isinstance(config.aggregation, Ckks):
        return (
            f"if {config.aggregation.decryptor} is honest, and the same in all runs over these records: it recomputes "
            f"the sum over silos that all committed before any sent, and opens one of a model version; {bound}"
        )
    return f"signed keys, one manifest for all, consistency round; {bound}"


def _decryptor_sees(config: Config) -> str:
    match config.aggregation:
        case Bfv(decryptor=decryptor):
            return f"{decryptor} opens one masked sum, uniform to it"
        case Ckks(decryptor=decryptor):
            return f"{decryptor} is a trusted aggregator: it could open each silo's ciphertexts"
        case _:
            return "there is no decryptor"


def _quantum_safe(config: Config) -> bool:
    return isinstance(config.aggregation, Bfv | Ckks) or (
        isinstance(config.aggregation, Masked) and config.security.post_quantum
    )


def _recorded(config: Config) -> str:
    if isinstance(config.aggregation, UnsafePlain):
        return "updates travel in the clear"
    if isinstance(config.aggregation, Bfv | Ckks):
        return "the ciphertexts rest on lattices (RLWE), at 128 bits or more against quantum computers"
    if not config.security.post_quantum:
        return "keys and masks rest on X25519 alone, which a quantum computer breaks"
    return "each silo's update stays masked while X25519 or ML-KEM-768 holds; the sum is the server's to see"


def _after(config: Config) -> str:
    match config.privacy:
        case NonPrivate():
            return "without noise: it can reveal records"
        case RecordDP(noise="own"):
            return "noised under DP-SGD"
        case _:
            return "with noise that the silos share"


def _weakest(privacy: RecordDP | SiloDP) -> float:
    return person_guarantee(privacy)[0] if isinstance(privacy, RecordDP) else privacy.epsilon


def _privacy(config: Config) -> str:
    if isinstance(config.privacy, NonPrivate):
        return "no differential privacy: a sum of few silos can still be read for tokens of single records"
    promise = f"(ε = {config.privacy.epsilon:g}, δ = {config.privacy.delta:g})"
    shared = f"against whoever sees the sums, up to {_count(max(1, config.security.colluding))} among them"
    if isinstance(config.privacy, SiloDP):
        return f"{promise} over the whole run, one silo's updates against none, {shared}"
    unit = "record" if isinstance(config.privacy.unit, PerRecord) else "person with all records"
    if config.privacy.noise == "joint":
        return f"{promise} over the whole run, one {unit} added or removed, {shared}"
    return f"{promise} per silo over the whole run, one {unit} added or removed"


def _protects_persons(config: Config) -> bool:
    privacy = config.privacy
    return isinstance(privacy, SiloDP) or (isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject))


def _persons(config: Config) -> str:
    privacy = config.privacy
    if isinstance(privacy, SiloDP):
        return f"(ε = {privacy.epsilon:g}, δ = {privacy.delta:g}) for a person of one silo: all of it is the unit"
    if not isinstance(privacy, RecordDP):
        return "no differential privacy"
    if privacy.silos_per_subject is None:
        return "the unit is one record: a person with k records has at best k·ε; say unit: {subject: COLUMN}"
    epsilon, delta = person_guarantee(privacy)
    many = privacy.silos_per_subject
    if many == 1:
        return f"(ε = {epsilon:g}, δ = {delta:g}): the silos are declared to hold different persons"
    return f"(ε = {epsilon:g}, δ = {delta:g}) for a person whose records may lie in {many} silos: {many} budgets added"


def person_guarantee(privacy: RecordDP) -> tuple[float, float]:
    """Return (ε, δ) of one unit over all silos: the sum over as many as may hold a person's records."""
    many = privacy.silos_per_subject or 1
    return across_silos([(privacy.epsilon, privacy.delta)] * many, silos_per_subject=many)
