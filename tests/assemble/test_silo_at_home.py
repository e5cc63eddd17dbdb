"""The two sides of a plan, each made of what it alone has."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fedcollm_crypto.keys import Identity
from fedcollm_crypto.lines import InUse
from fedcollm_crypto.masking.stages import FileStages, Released, Where
from fedcollm_crypto.roster import Member, Role, Roster
from fedcollm_privacy.errors import BudgetExhausted, LedgerError
from fedcollm_secure.assemble import prepare
from fedcollm_secure.assemble.planning import Coordinating, plan_of, prepare_server, read_own
from fedcollm_secure.assemble.silo_at_home import affordable, open_ledger, open_silo, prepare_silo
from fedcollm_secure.config import parse
from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.config.plan import Plan
from fedcollm_secure.config.policy import Accept, DataLaw, Policy, PrivacyLaw
from fedcollm_secure.config.protection import Bfv, NonPrivate
from fedcollm_secure.config.site import Site
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.errors import ConfigError, RefusedByPolicy
from tests.conftest import rows, write_jsonl  # type: ignore[import-not-found]

Trees = Callable[..., dict[str, object]]
SILOS = ("north", "south", "west")


@dataclass(frozen=True, kw_only=True)
class Pilot:
    own: Coordinating
    roster: Roster
    identities: dict[str, Identity]
    site: Site
    policy: Policy

    def plan(self, nonce: str = "00" * 16) -> Plan:
        return plan_of(self.own, self.roster, nonce)


@pytest.fixture
def pilot(private: Trees, models: Path, tmp_path: Path) -> Pilot:
    tree = private(aggregation={"masked": {}})
    data = {**tree["data"], "silos": {"members": list(SILOS)}}  # type: ignore[dict-item]
    identities = {name: Identity.generate(name) for name in ("server", *SILOS)}

    def member(name: str, role: Role) -> Member:
        return Member(id=name, role=role, ed25519=identities[name].public_key)

    members = (member("server", "server"), *(member(name, "silo") for name in SILOS))
    home = tmp_path / "north"
    home.mkdir()
    return Pilot(
        own=read_own(parse({**tree, "data": data})),
        roster=Roster(consortium_id="pilot", epoch=1, members=members, policy={}),
        identities=identities,
        site=Site(
            name="north",
            consortium="pilot",
            role="silo",
            address="127.0.0.1:7400",
            data=FileSource(path=str(write_jsonl(home / "own.jsonl", rows(40, start=900)))),
            slm=ModelSource(source=str(models / "slm")),
            ledger=str(home / "ledger.jsonl"),
            device="cpu",
        ),
        policy=Policy(
            accept=Accept(consortium="pilot"),
            data=DataLaw(columns=("text", "topic"), rows=10),
            privacy=PrivacyLaw(epsilon_total=8.01, delta_total=2e-5, epsilon_per_plan=8.0, delta_per_plan=1e-5),
        ),
    )


def test_both_sides_compute_the_same_terms_each_from_its_own(pilot: Pilot) -> None:
    plan = pilot.plan()
    server = prepare_server(pilot.own, plan, pilot.roster)
    silo = prepare_silo(plan, pilot.site, pilot.policy)
    for what in (
        "silos",
        "encoding",
        "packing",
        "plan",
        "parameters",
        "schema_digest",
        "base_digest",
        "training_digest",
    ):
        assert getattr(server.common, what) == getattr(silo.common, what), what
    assert silo.common.config.models.llm.source == "elsewhere"
    assert str(pilot.site.ledger) not in plan.text


def test_a_simulation_has_no_members(pilot: Pilot) -> None:
    with pytest.raises(ConfigError, match="on their own machines"):
        prepare(pilot.own.config)


def test_a_plan_is_for_the_silos_of_its_roster(pilot: Pilot) -> None:
    fewer = replace(pilot.roster, members=pilot.roster.members[:-1])
    with pytest.raises(ConfigError, match="expected the silos of the roster"):
        plan_of(pilot.own, fewer, "00" * 16)


def test_a_coordinator_that_changed_its_mind_needs_another_plan(pilot: Pilot) -> None:
    other = replace(pilot.own, config=replace(pilot.own.config, rounds=3))
    with pytest.raises(ConfigError, match="not those that this plan was made of"):
        prepare_server(other, pilot.plan(), pilot.roster)


def test_a_silo_refuses_another_model_and_too_few_records(pilot: Pilot, models: Path) -> None:
    with pytest.raises(ConfigError, match="the weights are not the plan's"):
        prepare_silo(pilot.plan(), replace(pilot.site, slm=ModelSource(source=str(models / "llm"))), pilot.policy)
    strict = replace(pilot.policy, data=replace(pilot.policy.data, rows=41))
    with pytest.raises(RefusedByPolicy, match=r"data\.rows asks for 41"):
        prepare_silo(pilot.plan(), pilot.site, strict)


def test_two_plans_draw_on_one_ledger_and_a_second_process_is_refused(pilot: Pilot, tmp_path: Path) -> None:
    def opened(plan: Plan, resources: ExitStack) -> None:
        side = prepare_silo(plan, pilot.site, pilot.policy)
        folder = tmp_path / plan.session
        open_silo(side, folder, pilot.site, pilot.policy, pilot.roster, pilot.identities["north"], resources)

    first, second = pilot.plan(), pilot.plan("01" * 16)
    assert first.session != second.session
    with ExitStack() as resources:
        opened(first, resources)
        with ExitStack() as others, pytest.raises((LedgerError, InUse), match="another process"):
            opened(second, others)
    terms = prepare_silo(first, pilot.site, pilot.policy).common.plan
    assert terms is not None
    with open_ledger(pilot.site, pilot.policy) as ledger:
        for number in (1, 2):
            ledger.reserve(session=first.session, round=number, plan=terms)
            ledger.release(session=first.session, round=number, digest="00" * 32)
        with pytest.raises(BudgetExhausted):
            ledger.reserve(session=second.session, round=1, plan=terms)
    left = affordable(prepare_silo(second, pilot.site, pilot.policy), pilot.site, pilot.policy)
    assert (left.rounds, left.asked) == (0, 2)
    assert 0 < left.spent == left.after <= 8.01
    richer = replace(pilot.policy, privacy=replace(pilot.policy.privacy, epsilon_total=100.0))
    with pytest.raises(LedgerError, match="set once per population"):
        open_ledger(pilot.site, richer)


def test_what_is_not_offered_is_refused(pilot: Pilot) -> None:
    with pytest.raises(ConfigError, match="by masks alone"):
        read_own(replace(pilot.own.config, aggregation=Bfv()))


def remembers(site: Site, *, dp_plan_hash: str) -> None:
    """Let the site's data set have been in a sum of another session."""
    stages = FileStages(Path(site.ledger).with_suffix(".stages.jsonl"))
    where = Where(session_id="before", round=1, attempt=1, linear_pass=0)
    stages.append(Released(where=where, model_version="m", survivors=SILOS, dp_plan_hash=dp_plan_hash))
    stages.close()


def open_north(pilot: Pilot, plan: Plan, folder: Path) -> None:
    with ExitStack() as resources:
        side = prepare_silo(plan, pilot.site, pilot.policy)
        open_silo(side, folder, pilot.site, pilot.policy, pilot.roster, pilot.identities["north"], resources)


def test_a_data_set_is_in_sums_without_privacy_of_one_plan_alone(pilot: Pilot, tmp_path: Path) -> None:
    own = replace(pilot.own, config=replace(pilot.own.config, privacy=NonPrivate()))
    plain = replace(pilot, own=own)
    plan = plain.plan()
    open_north(plain, plan, tmp_path / "session")
    open_north(plain, plan, tmp_path / "session")  # the same plan goes on
    remembers(pilot.site, dp_plan_hash="")

    with pytest.raises(RefusedByPolicy, match="already part of sums without differential privacy"):
        open_north(plain, plan, tmp_path / "session")
    open_north(pilot, pilot.plan(), tmp_path / "private")


def test_a_ledger_that_is_gone_is_missed(pilot: Pilot, tmp_path: Path) -> None:
    remembers(pilot.site, dp_plan_hash="ab" * 32)

    with pytest.raises(RefusedByPolicy, match=r"ledger\.jsonl is missing, and this data set has spent ε already"):
        open_north(pilot, pilot.plan(), tmp_path / "session")
