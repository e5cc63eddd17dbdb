"""A consortium's coordinator: from its configuration to a plan, and from both to its side of the run.

It reads its own records, which are public, and both models. No record of a silo is anywhere near.
"""

from dataclasses import dataclass, field, replace

from fedcollm_crypto.roster import Roster
from fedcollm_secure.assemble.cohort_size import check_cohort
from fedcollm_secure.assemble.common import make_common, make_numbers
from fedcollm_secure.assemble.learners import apart_of, make_encoders, make_learner, tokens_of
from fedcollm_secure.assemble.privacy_plans import make_plan
from fedcollm_secure.assemble.server_side import ServerSide
from fedcollm_secure.assemble.tokenizers import check_tokenizers
from fedcollm_secure.config import Config
from fedcollm_secure.config.data import Members
from fedcollm_secure.config.plan import Plan, make_plan_of
from fedcollm_secure.config.protection import Encrypted
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import max_length
from fedcollm_secure.learning.data.holdings import PublicRecords, gather_public
from fedcollm_secure.learning.models import (
    Base,
    choose_device,
    load_base,
    tokenizer_fingerprint,
    with_lora,
)


@dataclass(frozen=True, kw_only=True)
class Coordinating:
    """A coordinator's records and models in memory."""

    config: Config
    public: PublicRecords = field(repr=False)
    llm: Base = field(repr=False)
    slm: Base = field(repr=False)

    @property
    def context(self) -> int:
        """Return how many tokens both models take."""
        return min(max_length(self.llm.model), max_length(self.slm.model))


def read_own(config: Config) -> Coordinating:
    """Read what a coordinator's configuration names.

    Raises:
        ConfigError: it names silos' records, data or models cannot be read, or what a consortium cannot do yet.
    """
    silos = _silos(config)
    _require_offered(config)
    check_cohort(config, silos)
    public = gather_public(config.data, seed=config.seed)
    device = choose_device(config.device)
    llm = load_base(config.models.llm, "models.llm", device)
    slm = load_base(config.models.slm, "models.slm", device)
    check_tokenizers(config, llm, slm)
    return Coordinating(config=config, public=public, llm=llm, slm=slm)


def plan_of(own: Coordinating, roster: Roster, nonce: str) -> Plan:
    """Return the plan that this coordinator proposes to the members of a roster.

    Raises:
        ConfigError: the configuration names other silos than the roster.
    """
    silos = _silos(own.config)
    if frozenset(silos) != roster.of_role("silo"):
        raise ConfigError(
            "data.silos.members",
            f"expected the silos of the roster, {', '.join(sorted(roster.of_role('silo')))}; got {', '.join(silos)}",
        )
    if own.config.security.post_quantum and roster.policy.get("profile") != "post_quantum":
        raise ConfigError(
            "security.post_quantum", "this consortium's members have classical keys; init one with --post-quantum"
        )
    return make_plan_of(
        own.config,
        nonce=nonce,
        consortium=roster.consortium_id,
        epoch=roster.epoch,
        roster=roster.hash,
        silos=silos,
        digests=(own.llm.digest, own.slm.digest),
        tokenizer=tokenizer_fingerprint(own.slm.tokenizer),
        context=own.context,
        known=own.public.labels,
    )


def prepare_server(own: Coordinating, plan: Plan, roster: Roster) -> ServerSide:
    """Return the server's side of a plan.

    Raises:
        ConfigError: what the coordinator holds today makes another plan; or the plan itself cannot work.
    """
    if plan_of(own, roster, plan.nonce).text != plan.text:
        raise ConfigError(
            "plan",
            "the coordinator's configuration, records or models are not those that this plan was made of; restore "
            "them, or make another plan",
        )
    config = own.config
    server_slm = Adapter(with_lora(own.slm, config.lora, seed=config.seed), config.what_travels)
    numbers = make_numbers(config, server_slm, len(plan.silos), make_plan(config))
    common = make_common(config, plan.silos, numbers, server_slm, weights=own.slm.digest, training_digest=plan.digest)
    llm_encoder, encoder = make_encoders(config, own.llm, own.slm, own.context)
    side = ServerSide(
        common=common,
        llm=own.llm,
        slm=own.slm,
        encoder=encoder,
        llm_encoder=llm_encoder,
        server_llm=Adapter(with_lora(own.llm, config.lora, seed=config.seed), "fedavg"),
        server_slm=server_slm,
        test=own.public.test,
        auxiliary=own.public.auxiliary,
    )
    _require_trainable(side)
    return side


def _require_trainable(side: ServerSide) -> None:
    """Refuse here, and not in the run, models that cannot be trained and records that cannot be read."""
    tokens_of(side.encoder, side.test)
    learner = make_learner(
        side.common, "server", side.auxiliary, adapter=side.server_llm, encoder=side.encoder, apart=""
    )
    apart_of(replace(learner, plan=None, subjects=None), min(len(side.slm.tokenizer), len(side.llm.tokenizer)))


def _silos(config: Config) -> tuple[str, ...]:
    if not isinstance(config.data.silos, Members):
        raise ConfigError(
            "data.silos",
            "expected members: a consortium's silos hold their own records, and its plan names them alone; say "
            "silos: {members: [NAME, …]} as in the roster",
        )
    return tuple(sorted(config.data.silos.names))


def _require_offered(config: Config) -> None:
    """Refuse what this version does in a simulation alone, rather than half of it."""
    if isinstance(config.aggregation, Encrypted):
        raise ConfigError(
            "aggregation", "a consortium on its members' own machines sums by masks alone so far; say masked"
        )
    if config.silo.optimizer_state == "kept":
        raise ConfigError("silo.optimizer_state", "kept is offered in simulations alone so far; use fresh")
