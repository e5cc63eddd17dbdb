"""A silo asks whether it gained: at home without a trace elsewhere, or told once, under its own budget."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_privacy.errors import BudgetExhausted
from fedcollm_privacy.ledger import Ledger, read_book
from fedcollm_privacy.score_plan import ScorePlan
from fedcollm_secure import cli
from fedcollm_secure.assemble import prepare, resume, start
from fedcollm_secure.config import load, parse
from fedcollm_secure.errors import ConfigError, LogError, RunError
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.models import load_base
from fedcollm_secure.operations import gain as asked
from fedcollm_secure.operations.budget_command import budget
from fedcollm_secure.operations.gain.noisy_release import publish
from fedcollm_secure.operations.gain.release_verification import verify_gain
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.operations.verify_command import verify_budget, verify_directory
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
SILO = "silo-2"
OWN = {"own": 0.3, "own_epsilon": 0.5}
DP = {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2}


def ran(config: dict[str, object], out: Path) -> Path:
    run(parse(config), out, resuming=False, show=Quiet())
    return out


@pytest.fixture
def private_run(private: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of one private run, which is made once."""
    once = tmp_path_factory.getbasetemp() / "with-own"
    if not once.exists():
        ran(private(rounds=1, aggregation={"masked": {}}, evaluate=OWN), once)
    return shutil.copytree(once, tmp_path / "run")


@pytest.fixture
def open_run(tree: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of one run without differential privacy that gains something, which is made once."""
    once = tmp_path_factory.getbasetemp() / "with-own-open"
    if not once.exists():
        silo = {"steps": 20, "batch_size": 8, "learning_rate": 0.05}
        ran(tree(silo=silo, evaluate={"own": 0.5, "own_epsilon": 1.0}), once)
    return shutil.copytree(once, tmp_path / "open")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(before: dict[str, bytes], folder: Path) -> set[str]:
    """Return the names of what is new or different, or gone."""
    after = contents(folder)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_at_home_a_silo_sees_its_own_scores_and_leaves_no_trace_elsewhere(open_run: Path) -> None:
    before = contents(open_run)
    found = asked.gain(open_run, SILO)
    config = load(open_run / "config.yaml")
    prepared = prepare(config)
    evaluation = Evaluation(prepared.holdings.own[SILO], prepared.encoder, tokens_per_batch=1)
    base = load_base(config.models.slm, "models.slm", torch.device("cpu")).model
    first = evaluation.judge(base)
    last = evaluation.judge(PeftModel.from_pretrained(base, str(open_run / "adapters" / "slm")))
    turned = [(one, other) for one, other in zip(first.right, last.right, strict=True) if one != other]

    assert (found["before"], found["after"]) == (first.scores, last.scores)
    assert found["records"] == len(prepared.holdings.own[SILO])
    assert (found["won"], found["lost"]) == (turned.count((False, True)), turned.count((True, False)))
    assert turned, "nothing changed, so nothing was tested"
    assert (found["metric"], found["round"], found["may_be_told"]) == ("accuracy", 2, False)
    assert changed(before, open_run) == {f"silos/{SILO}/gain.json"}
    assert json.loads((open_run / "silos" / SILO / "gain.json").read_text()) == found
    assert (open_run / "silos" / SILO / "gain.json").stat().st_mode & 0o077 == 0  # what nobody paid for, nobody reads


def test_a_person_is_told_that_the_figure_stays_at_home(private_run: Path, open_run: Path) -> None:
    private, plain = (asked.gain_words(asked.gain(folder, SILO), folder) for folder in (private_run, open_run))

    assert "must stay at home: no budget paid for it" in private
    assert "must stay at home: it is not noised" in plain
    for words in (private, plain):
        assert any(said in words for said in ("silo-2 gained", "silo-2 lost", "silo-2 cannot tell"))


def test_free_text_has_a_paired_rate_beside_its_perplexity(tree: Make, tmp_path: Path) -> None:
    made = tree(rounds=1, evaluate={"own": 0.3})
    made["data"]["task"] = {"text": {"prompt": "note : {text} is", "answer": "{topic}"}}  # type: ignore[index]
    found = asked.gain(ran(made, tmp_path / "run"), SILO)

    assert found["metric"] == "exact_match"
    assert "perplexity" in asked.gain_words(found, tmp_path / "run")
    assert set(found["after"]) == {"perplexity", "exact_match"}  # type: ignore[call-overload]


def test_what_the_log_does_not_name_is_not_scored(open_run: Path) -> None:
    adapter = open_run / "adapters" / "slm" / "adapter_config.json"
    whole = adapter.read_bytes()
    adapter.write_bytes(whole + b" ")
    with pytest.raises(LogError, match="adapters/slm is not the adapter that a closed round left behind"):
        asked.gain(open_run, SILO)
    adapter.write_bytes(whole)
    config = open_run / "config.yaml"
    config.write_text(config.read_text().replace("own: 0.5", "own: 0.4"))
    with pytest.raises(LogError, match=r"config\.yaml is not the configuration that the run was started with"):
        asked.gain(open_run, SILO)


def test_another_small_model_is_not_scored(open_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcollm_secure.learning.models.weights_digest", lambda _: "ab" * 32)

    with pytest.raises(LogError, match=r"models\.slm on this machine is not what the run began with"):
        asked.gain(open_run, SILO)


def test_a_release_is_signed_paid_for_and_asked_again_the_same(private_run: Path) -> None:
    before = contents(private_run)
    document = asked.release(private_run, SILO, 0.5)
    ledger = private_run / "silos" / SILO / "ledger.jsonl"
    paid = ledger.read_bytes()
    signed = Signed.from_json(document)  # type: ignore[arg-type]  # what was read from canonical JSON
    roster = Roster.from_body(canonical.decode((private_run / "audit" / "roster.json").read_bytes())["roster"])  # type: ignore[index, call-overload]
    signed.verify(roster.key(SILO))

    assert changed(before, private_run) == {f"silos/{SILO}/gain-release.json", f"silos/{SILO}/ledger.jsonl"}
    assert asked.release(private_run, SILO, 0.5) == document
    assert ledger.read_bytes() == paid
    assert (signed.body["epsilon"], signed.body["unit"], signed.body["silo"]) == ("0.5", "record", SILO)
    assert not {"won", "lost", "before", "after", "records"} & signed.body.keys()
    with pytest.raises(ConfigError, match=r"at ε = 0\.5, once and for all"):
        asked.release(private_run, SILO, 0.4)
    with pytest.raises(ProtocolError, match="does not verify"):
        signed.verify(roster.key("silo-1"))
    assert "may tell (ε = 0.5, δ = 0" in asked.release_words(document, private_run)


def test_a_release_is_a_line_of_the_budget_and_the_run_still_verifies(private_run: Path) -> None:
    ledger = private_run / "silos" / SILO / "ledger.jsonl"
    trained = read_book(ledger).epsilon_spent()
    asked.release(private_run, SILO, 0.5)
    found = budget(ledger)

    assert found["spent"] == pytest.approx(trained + 0.5)
    assert found["epsilon"] == 8.5
    assert [(row["score"], row["state"]) for row in found["rounds"]] == [(False, "done"), (True, "done")]  # type: ignore[attr-defined]
    assert verify_directory(private_run, None, None)[0] == 0
    assert verify_budget(ledger, None)[0] == 0


def test_whoever_is_handed_a_release_can_check_it(private_run: Path, tmp_path: Path) -> None:
    asked.release(private_run, SILO, 0.5)
    file = private_run / "silos" / SILO / "gain-release.json"
    assert verify_gain(file, private_run, None)[0] == 0
    body = Signed.decode(file.read_bytes()).body
    identity = Identity.load(SILO, private_run / "silos" / SILO / "identity.pem")
    other = Identity.load(SILO, private_run / "silos" / "silo-1" / "identity.pem")
    forged = tmp_path / "forged.json"
    for signer, change, message in (
        (identity, {"verdict": "gained"}, "the interval is not what follows"),
        (identity, {"noisy_gain": 10**6}, "the interval is not what follows"),
        (identity, {"adapter": "ab" * 32}, "not about an adapter"),
        (identity, {"run": "another"}, "not about an adapter"),
        (identity, {"silo": "silo-1"}, "under its own name"),
        (identity, {"noisy_gain": "1"}, "expected an integer"),
        (identity, {"round": [1]}, "round: expected an integer"),
        (identity, {"round": True}, "round: expected an integer"),
        (identity, {"epsilon": "1e+305"}, "epsilon must be at most 1e"),
        (other, {}, "does not verify"),
    ):
        forged.write_bytes(sign(signer, "own-score", {**body, **change}).encode())
        code, found = verify_gain(forged, private_run, None)
        assert (code, found["verified"]) == (1, False)
        assert message in str(found["reason"])
    forged.write_bytes(file.read_bytes() + b" ")
    assert verify_gain(forged, private_run, None)[0] == 1
    assert cli.main(["verify", "gain", str(file), str(private_run)]) == 0
    assert cli.main(["verify", "gain", str(file), str(tmp_path)]) == 2
    (private_run / "audit" / "roster.json").unlink()
    assert cli.main(["verify", "gain", str(file), str(private_run)]) == 3


def test_noise_is_what_the_plan_draws_on_exact_integers(private_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = asked.gain(private_run, SILO)
    monkeypatch.setattr(ScorePlan, "noisy", lambda self, score, records: (score + 1000, records + 2000))
    body = asked.release(private_run, SILO, 0.5)["body"]

    assert body["noisy_gain"] == exact["won"] - exact["lost"] + 1000  # type: ignore[index, operator]
    assert body["noisy_records"] == exact["records"] + 2000  # type: ignore[index, operator]


def test_a_release_reads_each_record_alone(private_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    read = Evaluation.__init__

    def watch(self: Evaluation, records: object, encoder: object, *, tokens_per_batch: int) -> None:
        sizes.append(tokens_per_batch)
        read(self, records, encoder, tokens_per_batch=tokens_per_batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Evaluation, "__init__", watch)
    asked.gain(private_run, SILO)
    asked.release(private_run, SILO, 0.5)

    assert sizes == [2048, 1]


def test_a_budget_without_room_refuses_and_nothing_is_drawn(private_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> tuple[int, int]:
        raise AssertionError("noise was drawn")

    monkeypatch.setattr(ScorePlan, "noisy", never)
    before = contents(private_run)
    with pytest.raises(BudgetExhausted, match="epsilon budget is exhausted"):
        asked.release(private_run, SILO, 0.6)

    assert changed(before, private_run) == set()
    assert cli.main(["gain", str(private_run), SILO, "--release", "0.6"]) == 4


def test_a_lost_ledger_is_not_begun_anew(private_run: Path) -> None:
    (private_run / "silos" / SILO / "ledger.jsonl").unlink()

    with pytest.raises(RunError, match="a fresh ledger would forget it"):
        asked.release(private_run, SILO, 0.5)


def test_a_ledger_that_was_put_back_pays_for_no_score(private: Make, tmp_path: Path) -> None:
    config, folder = parse(private(rounds=1, aggregation={"masked": {}}, evaluate=OWN)), tmp_path / "run"
    job = start(prepare(config), folder, lambda _, __: None)
    ledger = folder / "silos" / SILO / "ledger.jsonl"
    copy = ledger.read_bytes()
    list(job.rounds())
    job.close()
    ledger.write_bytes(copy)

    with pytest.raises(LogError, match="does not hold a head that the log commits to"):
        asked.release(folder, SILO, 0.5)
    assert ledger.read_bytes() == copy


def test_without_differential_privacy_a_ledger_is_opened_for_the_score(open_run: Path) -> None:
    asked.release(open_run, SILO, 1.0)
    found = budget(open_run / "silos" / SILO / "ledger.jsonl")

    assert (found["epsilon"], found["delta"], found["spent"]) == (1.0, 0.0, 1.0)
    assert verify_directory(open_run, None, None)[0] == 0
    with pytest.raises(BudgetExhausted):
        asked.release(open_run, "silo-1", 1.1)


UNITS = [
    ({"record_dp": {**DP, "unit": {"subject": "site"}, "silos_per_subject": 4}}, "a person with many kept records"),
    ({"silo_dp": {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "least_signal_to_noise": 0}}, "silo_dp protects a"),
    ({"non_private": {}}, "expected a budget above 0, got 0"),
]


@pytest.mark.parametrize(("privacy", "message"), UNITS)
def test_what_noise_for_one_record_would_not_protect_is_not_told(
    tree: Make, tmp_path: Path, privacy: dict[str, object], message: str
) -> None:
    made = tree(rounds=1, privacy=privacy, aggregation={"masked": {}}, evaluate={"own": 0.5})
    made["data"]["silos"] = {"iid": 4}  # type: ignore[index]
    if "record_dp" in privacy:  # as many persons as records, so that some are on each side
        source = Path(made["data"]["source"]["path"])  # type: ignore[index]
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        source.write_text("".join(json.dumps({**row, "site": f"p{n}"}) + "\n" for n, row in enumerate(rows)))
    folder = ran(made, tmp_path / "run")

    with pytest.raises(ConfigError, match=message):
        asked.release(folder, SILO, 0.5)
    assert asked.gain(folder, SILO)["verdict"] in ("gained", "lost", "cannot_tell")


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and only what is durable stays."""


def test_no_kill_lets_noise_be_drawn_twice_under_one_charge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, count, deaths = ScorePlan(epsilon=0.5), 0, 0
    write, sync, replace = os.write, os.fsync, Path.replace

    def dying(call: Callable[..., object], deadline: int) -> Callable[..., object]:
        def wrapper(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count == deadline:
                raise Killed
            return call(*arguments)

        return wrapper

    for deadline in range(1, 40):
        folder, drawn, shown = tmp_path / str(deadline), [], []
        folder.mkdir()

        def attempt(folder: Path = folder, drawn: list[bytes] = drawn, shown: list[bytes] = shown) -> None:
            def draw() -> bytes:
                drawn.append(f"document {len(drawn)}".encode())
                return drawn[-1]

            with Ledger.open(folder / "ledger", population="p", epsilon=9.0, delta=0.0, simulated=True) as ledger:
                path, terms = folder / "release", b"terms"
                shown.append(publish(ledger=ledger, path=path, session="s", plan=plan, terms=terms, make=draw))

        count = 0
        with monkeypatch.context() as patched:
            patched.setattr("os.write", dying(write, deadline))
            patched.setattr("os.fsync", dying(sync, deadline))
            patched.setattr(Path, "replace", dying(replace, deadline))
            try:
                attempt()
                died = False
            except Killed:
                died = True
        deaths += died
        attempt()
        attempt()

        assert len(set(shown)) == 1
        assert len(drawn) * 0.5 <= read_book(folder / "ledger").epsilon_spent()
        if not died:
            break
    assert deaths >= 11  # of opening, reserve, release, done: before the line and after; of the document: three
    assert (len(drawn), read_book(folder / "ledger").epsilon_spent()) == (1, 0.5)


def test_a_stopped_run_can_tell_and_go_on(private: Make, tmp_path: Path) -> None:
    config = parse(private(aggregation={"masked": {}}, evaluate=OWN))
    job = start(prepare(config), tmp_path / "run", lambda _, __: None)
    rounds = job.rounds()
    next(rounds)
    with pytest.raises(ConfigError, match="at least one complete round"):
        asked.gain(tmp_path / "run", SILO)
    next(rounds)
    job.close()
    assert asked.release(tmp_path / "run", SILO, 0.5)["body"]["round"] == 1  # type: ignore[index, call-overload]
    job = resume(prepare(config), tmp_path / "run", lambda _, __: None)
    list(job.rounds())
    job.close()

    assert asked.gain(tmp_path / "run", SILO)["round"] == 2
    assert budget(tmp_path / "run" / "silos" / SILO / "ledger.jsonl")["spent"] == pytest.approx(8.5, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", SILO), "is no run directory"),
        (("RUN", "silo-9"), "expected one of the silos silo-1"),
        (("RUN", "../silo-1"), "expected one of the silos silo-1"),
        (("RUN", SILO, "--release", "0"), "epsilon must be a positive finite number"),
        (("RUN", SILO, "--release", "nan"), "epsilon must be a positive finite number"),
    ],
)
def test_a_question_that_cannot_be_answered_is_exit_2(
    open_run: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code = cli.main(["gain", *(str(open_run) if each == "RUN" else each for each in arguments)])

    assert code == 2
    assert message in capsys.readouterr().err


def test_a_run_that_kept_nothing_apart_is_exit_2(
    tree: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ran(tree(rounds=1), tmp_path / "run")

    assert cli.main(["gain", str(folder), SILO]) == 2
    assert "evaluate.own: expected a share above 0" in capsys.readouterr().err


def test_gain_prints_one_document(open_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gain", str(open_run), SILO, "--json"]) == 0
    home = json.loads(capsys.readouterr().out)
    assert cli.main(["gain", str(open_run), SILO, "--release", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert (home["silo"], home["may_be_told"]) == (SILO, False)
    assert told["body"]["epsilon"] == "1.0"
    assert Signed.from_json(told).kind == "own-score"
