"""One question to a tuned model: by the command, and by plain peft and transformers as the page on models has it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedcollm_secure import cli
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError, LogError
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.operations.try_command import ask, ask_words, fill
from tests.conftest import TOPICS, rows, write_jsonl
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
PAGE = Path(__file__).parents[2] / "docs" / "models-and-data.md"
TASKS: dict[str, dict[str, object]] = {
    "labels": {"classification": {"prompt": "note : {text}", "label": "topic"}},
    "choices": {"multiple_choice": {"prompt": "note : {text}", "choices": ["one", "two"], "answer": "right"}},
    "text": {"text": {"prompt": "note : {text}", "answer": "{topic}"}},
}


@pytest.fixture
def tuned(tree: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that returns a copy of a run with this task, which is made once."""

    def make(task: str) -> Path:
        once = tmp_path_factory.getbasetemp() / f"tuned-{task}"
        if not once.exists():
            once.mkdir()
            given = tree(rounds=1, silo={"steps": 20, "batch_size": 8, "learning_rate": 0.05})
            records = [{**row, "one": row["topic"], "two": "pulse", "right": 0} for row in rows(90)]
            sources = {"source": {"path": str(write_jsonl(once / "all.jsonl", records))}, "task": TASKS[task]}
            parts = {"test": {"share": 0.2}, "auxiliary": {"share": 0.2}}
            run(
                parse({**given, "data": {**given["data"], **sources, **parts}}),
                once / "run",
                resuming=False,
                show=Quiet(),
            )  # type: ignore[dict-item]
        return shutil.copytree(once / "run", tmp_path / "run")

    return make


def test_labels_are_ranked_with_probabilities(
    tuned: Callable[[str], Path], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tuned("labels")
    found = {side: ask(folder, ["rash itch"], side) for side in ("slm", "llm")}  # type: ignore[arg-type]
    assert cli.main(["try", str(folder), "rash itch", "--json"]) == 0

    for side, document in found.items():
        answers = document["answers"]
        assert document["model"] == side
        assert sorted(each["text"] for each in answers) == sorted(TOPICS)  # type: ignore[attr-defined]
        assert sum(each["probability"] for each in answers) == pytest.approx(1)  # type: ignore[attr-defined]
        assert answers == sorted(answers, key=lambda each: -each["log"])  # type: ignore[call-overload]
    by_peft = _by_peft(folder, models, "note : rash itch", sorted(TOPICS))
    for each in found["slm"]["answers"]:  # type: ignore[attr-defined]
        assert each["probability"] == pytest.approx(by_peft[each["text"]], rel=1e-4)
    assert json.loads(capsys.readouterr().out) == found["slm"]
    assert ask_words(found["slm"]).splitlines()[0].endswith(f"%  {max(by_peft, key=by_peft.__getitem__)}")


def _by_peft(folder: Path, models: Path, prompt: str, labels: list[str]) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(str(models / "slm"))
    base = AutoModelForCausalLM.from_pretrained(str(models / "slm"))
    model = PeftModel.from_pretrained(base, str(folder / "adapters" / "slm")).eval()
    logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
    chances = logits[[tokenizer.get_vocab()[label] for label in labels]].softmax(dim=0).tolist()
    return dict(zip(labels, chances, strict=True))


def test_choices_are_given_with_the_question(tuned: Callable[[str], Path]) -> None:
    folder = tuned("choices")
    found = ask(folder, ["rash itch"], "slm", ["skin", "pulse"])

    assert [each["text"] for each in found["answers"]] == ["skin", "pulse"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="--choice: expected two or more for a multiple_choice task"):
        ask(folder, ["rash itch"], "slm")


def test_free_text_is_what_peft_and_transformers_write_in_three_lines(
    tuned: Callable[[str], Path], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tuned("text")
    found = ask(folder, ["rash itch"], "slm", most_tokens=8)
    code = PAGE.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    for written, here in (
        ("facebook/opt-1.3b", str(models / "slm")),
        ("runs/my-pilot/adapters/slm", str(folder / "adapters" / "slm")),
        ("chest pain. Specialty:", "note : rash itch"),
    ):
        assert written in code
        code = code.replace(written, here)
    exec(code, {"AutoPeftModelForCausalLM": AutoPeftModelForCausalLM, "AutoTokenizer": AutoTokenizer})  # noqa: S102  # the page's own lines

    assert len(code.splitlines()) == 3
    assert found["text"]
    assert capsys.readouterr().out.strip().removesuffix("<eos>").rstrip().endswith(f"rash itch {found['text']}")


def test_a_question_that_does_not_fit_and_what_is_no_run_are_refused(
    tuned: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tuned("labels")

    with pytest.raises(ConfigError, match="try: expected text=TEXT, as the prompt has them"):
        ask(folder, ["rash", "itch"], "slm")
    with pytest.raises(ConfigError, match="is no run directory"):
        ask(tmp_path, ["rash"], "slm")
    assert fill("{a} and {b}", ["b=2", "a=1=1"]) == "1=1 and 2"
    assert cli.main(["try", str(folder), "rash", "--tokens", "0"]) == 2


@pytest.mark.parametrize("side", ["slm", "llm"])
def test_an_adapter_that_the_log_does_not_name_is_not_asked(tuned: Callable[[str], Path], side: str) -> None:
    folder = tuned("labels")
    (folder / "adapters" / side / "adapter_config.json").write_text("{}", encoding="utf-8")

    with pytest.raises(LogError, match=f"adapters/{side} is not the adapter that a closed round left behind"):
        ask(folder, ["rash"], side)  # type: ignore[arg-type]
