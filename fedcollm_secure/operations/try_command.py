"""The `try` command: one question to the tuned models of a run, as its task asks it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from fedcollm_secure import config as configuration
from fedcollm_secure.assemble.learners import make_encoder
from fedcollm_secure.assemble.prepare import gather_for
from fedcollm_secure.audit_log.events import RoundClosed, RunStarted
from fedcollm_secure.audit_log.file_digests import file_digest, folder_digest
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.audit_log.untrusted_files import is_there, require_plain, shown
from fedcollm_secure.config import Config, templates
from fedcollm_secure.config.data import Classification, MultipleChoice
from fedcollm_secure.errors import ConfigError, LogError
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.asking import continued, ranked
from fedcollm_secure.learning.batches import max_length
from fedcollm_secure.learning.models import choose_device, context_length, load_base, with_lora
from fedcollm_secure.learning.pair import load_adapter

Json = Mapping[str, object]
Side = Literal["slm", "llm"]
MOST_TOKENS = 64
MOST_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A run with a complete round: `base_digest` is of the model's weights, `round` left the adapter in `folder`."""

    config: Config
    folder: Path
    base_digest: str
    round: int


def ask(
    run: Path, texts: Sequence[str], side: Side, choices: Sequence[str] = (), most_tokens: int = MOST_TOKENS
) -> Json:
    """Return the answers of one of the run's models, likeliest first, or the text that it writes.

    `texts` fill the columns of the task's prompt: one text where there is one column, else COLUMN=TEXT for each.
    `choices` are what a multiple-choice question lets it choose from.

    Raises:
        ConfigError: no run, no complete round, or a question that does not fit the run's task.
        LogError: configuration, model or adapter are not those that the log names.
    """
    tuned = read_tuned(run, side)
    config, task = tuned.config, tuned.config.data.task
    prompt = fill(task.prompt, texts)
    if bool(choices) != isinstance(task, MultipleChoice) or len(choices) == 1:
        raise ConfigError(
            "--choice", f"expected two or more for a multiple_choice task, none otherwise; got {len(choices)}"
        )
    answers = [f" {choice}" for choice in choices]
    if isinstance(task, Classification):
        answers = list(gather_for(config).test[0].answers)
    source, other = (config.models.slm, config.models.llm) if side == "slm" else (config.models.llm, config.models.slm)
    base = load_base(source, f"models.{side}", choose_device(config.device))
    if base.digest != tuned.base_digest:
        raise LogError(f"models.{side} on this machine is not the model that the run was made with")
    longest = min(max_length(base.model), context_length(other, "models"))
    encoder = make_encoder(config, base, longest)
    adapter = Adapter(with_lora(base, config.lora, seed=config.seed), "fedavg")
    load_adapter(adapter, tuned.folder)
    found: dict[str, object] = {"run": str(run), "model": side, "round": tuned.round}
    if not answers:
        return {**found, "text": continued(adapter.model, encoder, prompt, most_tokens=most_tokens)}
    budget = config.evaluate.tokens_per_batch
    rows = ranked(adapter.model, encoder, prompt, answers, tokens_per_batch=budget)
    return {**found, "answers": [vars(row) for row in rows]}


def read_tuned(folder: Path, side: Side) -> Tuned:
    """Read a run's configuration and where its adapter is, before anything heavy is loaded. Raises: as `ask`."""
    run, path = RunDirectory(folder), folder / "config.yaml"
    if not is_there(path):
        raise ConfigError("try", f"{shown(folder)} is no run directory: it has no config.yaml. Give what `run` wrote")
    require_plain(folder)
    events = [entry.event for entry in read_log(folder / "audit" / LOG_NAME).entries]
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    if started is None or file_digest(path) != started.config_digest:
        raise LogError("config.yaml is not the configuration that the run was started with")
    closed = [event for event in events if isinstance(event, RoundClosed)]
    adapter = run.adapters / side
    if not closed or not adapter.is_dir():
        raise ConfigError("try", f"expected a run with a complete round, got none in {shown(folder)}: run --resume")
    after = {event.adapter_after if side == "slm" else event.llm_adapter_digest: event.round for event in closed}
    try:
        number = after.get(folder_digest(adapter))
    except ValueError as error:
        raise LogError(str(error)) from error
    if number is None:
        raise LogError(f"adapters/{side} is not the adapter that a closed round left behind: run verify")
    return Tuned(config=configuration.load(path), folder=adapter, base_digest=started.models[side], round=number)


def fill(template: str, texts: Sequence[str]) -> str:
    """Return the prompt with `texts` in its columns. Raises: ConfigError."""
    columns = templates.columns(template)
    if len(columns) == 1 and len(texts) == 1:
        cells = {columns[0]: texts[0]}
    else:
        named = [text.partition("=") for text in texts]
        cells = {column: text for column, found, text in named if found}
        if set(cells) != set(columns) or len(texts) != len(columns):
            raise ConfigError(
                "try", f"expected {' '.join(f'{column}=TEXT' for column in columns)}, as the prompt has them"
            )
    return "".join(text + ("" if column is None else cells[column]) for text, column in templates.parts(template))


def ask_words(document: Json) -> str:
    """Say the likeliest answers with their probabilities, or the text."""
    if "text" in document:
        return _plain(str(document["text"]))
    rows = cast(Sequence[Mapping[str, object]], document["answers"])
    lines = [f"{100 * cast(float, row['probability']):5.1f} %  {_plain(str(row['text']))}" for row in rows[:MOST_SHOWN]]
    more = len(rows) - MOST_SHOWN
    return "\n".join([*lines, *([f"         and {more} more (--json)"] if more > 0 else [])])


def _plain(text: str) -> str:
    """Return a text without what a terminal would act on."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)
