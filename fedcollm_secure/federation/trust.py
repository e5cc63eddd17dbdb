"""Who can see what, and what holds, for one configuration: its row of `threat_model.md`, in plain words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fedcollm_secure.config.protection import Masked, RecordDP, UnsafePlain
from fedcollm_secure.config.schema import Config


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """One property, whether it holds in this configuration, and why or how far."""

    property: str
    holds: bool
    why: str

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map."""
        return asdict(self)


def guarantees(config: Config) -> list[Guarantee]:
    """Return what this configuration promises and what it does not."""
    masked, private = isinstance(config.aggregation, Masked), isinstance(config.privacy, RecordDP)
    malicious = masked and config.security.adversary == "malicious"
    bound = f"with at most {config.security.colluding} colluding silos"
    return [
        Guarantee(
            property="A silo's own update is hidden from a server that only looks",
            holds=masked,
            why=f"double masks; the server learns the sum alone, {bound}" if masked else "updates travel in the clear",
        ),
        Guarantee(
            property="A silo's own update is hidden from a malicious server",
            holds=malicious,
            why=f"signed keys, one manifest for all, consistency round; {bound}"
            if malicious
            else "not promised by this profile",
        ),
        Guarantee(
            property="Recorded traffic stays hidden from a later quantum computer",
            holds=masked and config.security.post_quantum,
            why=_recorded(config),
        ),
        Guarantee(
            property="Record counts of a silo are hidden",
            holds=masked or config.silo.weighting == "uniform",
            why="weights are equal and public" if config.silo.weighting == "uniform" else "the server learns Σw alone",
        ),
        Guarantee(
            property="Records are protected in the sum and in the final models",
            holds=private,
            why=_privacy(config),
        ),
        Guarantee(
            property="A privacy budget is enforced before each round",
            holds=private,
            why="a ledger per silo reserves the round or refuses" if private else "there is no budget to enforce",
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
            why=f"each silo cosigns only what grew out of its last head; {bound}"
            if masked
            else "silos cosign its heads",
        ),
    ]


def visible_to(config: Config, cohort: int) -> Mapping[str, str]:
    """Return what each party, or coalition, can see of a silo's data beyond the two final models."""
    n_c = config.security.colluding
    after = "noised under DP-SGD" if isinstance(config.privacy, RecordDP) else "without noise: it can reveal records"
    if isinstance(config.aggregation, UnsafePlain):
        return {
            "server": f"every silo's update, {after}",
            "another silo": "the averaged adapter of each round",
            "network": "every silo's update, unless the channel is encrypted",
        }
    return {
        "server": f"the sum over {cohort} silos, {after}",
        f"server with up to {n_c} silos": f"the sum over the remaining {cohort - n_c} silos, {after}",
        f"server with more than {n_c} silos": "any silo's update, where they reach the threshold",
        "another silo": "the averaged adapter of each round",
        "network": "masked words that are uniform to it",
    }


def warnings(config: Config, cohort: int) -> list[str]:
    """Return what a careful reader would want to be told before the run."""
    found: list[str] = []
    if isinstance(config.aggregation, UnsafePlain):
        found.append("unsafe_plain: the server sees each silo's update; use masked for anything but comparisons")
    if isinstance(config.aggregation, Masked) and not config.security.post_quantum:
        found.append(
            "classical profile: whoever records the traffic and has a quantum computer later can read each silo's "
            "update; say security: {post_quantum: true}"
        )
    if isinstance(config.aggregation, UnsafePlain) and config.security.post_quantum:
        found.append("post_quantum protects masked sums alone: under unsafe_plain it changes nothing")
    if not isinstance(config.privacy, RecordDP):
        found.append(
            "non_private: sums and final models can reveal records; secure aggregation hides who, only DP hides what"
        )
    elif config.privacy.epsilon > 10:
        found.append(f"epsilon {config.privacy.epsilon:g} is a weak promise; 1 to 8 is usual for text")
    if isinstance(config.privacy, RecordDP) and config.what_travels == "fedavg":
        found.append("factors: fedavg under DP multiplies the noise of A and B; ffa trains B alone")
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


def _recorded(config: Config) -> str:
    if isinstance(config.aggregation, UnsafePlain):
        return "updates travel in the clear"
    if not config.security.post_quantum:
        return "keys and masks rest on X25519 alone, which a quantum computer breaks"
    return "each silo's update stays masked while X25519 or ML-KEM-768 holds; the sum is the server's to see"


def _privacy(config: Config) -> str:
    if not isinstance(config.privacy, RecordDP):
        return "no differential privacy: a sum of few silos can still be read for tokens of single records"
    epsilon, delta = config.privacy.epsilon, config.privacy.delta
    return f"(ε = {epsilon:g}, δ = {delta:g}) per silo over the whole run, one record added or removed"
