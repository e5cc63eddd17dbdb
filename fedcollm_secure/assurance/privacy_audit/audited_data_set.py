"""The data set that is audited: a few records of each silo and the audit's own, written to files and read again.

    holdings, as configured → rows, and planted ones → one .jsonl a silo → the product's reader and task → holdings

So a planted record takes the whole way of any record: a reader or a silo that holds each record twice holds it twice.
"""

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assemble.prepare import gather_for
from fedcollm_secure.config import Config
from fedcollm_secure.config.data import Classification, Data, Files, FreeText, Labels, MultipleChoice, Task
from fedcollm_secure.config.protection import PerSubject, RecordDP
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.batches import Tokens
from fedcollm_secure.learning.data import Holdings, Record

COMPANY = 64
"""Records of its own that each silo keeps. Differential privacy grants an attacker all of them, so that they need not
be guessed around; many more would only hide the canaries from an audit that does not use that."""
WORDS = 64
Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A record of the audit's own, in words that occur nowhere else in this order; of a person, if it names one."""

    text: str = field(repr=False)
    subject: str | None = None


def texts(prepared: Prepared) -> Iterator[str]:
    """Yield prompts without end, each of other tokens than all before it, and than any record of the silos."""
    held = [record for records in prepared.holdings.silos.values() for record in records[:COMPANY]]
    words = _short_words(prepared, held)
    seen = {each.prompt for each in prepared.tokens(held)}
    for length in itertools.count(2):
        for chosen in itertools.product(words, repeat=length):
            prompt = prepared.encoder.encode([(" ".join(chosen), held[0].answer)])[0].prompt
            if prompt not in seen:
                seen.add(prompt)
                yield " ".join(chosen)


def with_planted(prepared: Prepared, planted: Mapping[str, Sequence[Planted]]) -> Holdings:
    """Return holdings as the product reads them from files with `COMPANY` rows of each silo and the planted ones."""
    config, holdings = prepared.config, prepared.holdings
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            silo: [*map(_row, records[:COMPANY]), *(_row(_like(records[0], each)) for each in planted.get(silo, ()))]
            for silo, records in holdings.silos.items()
        }
        paths = {silo: _write(Path(folder) / f"{number}.jsonl", rows[silo]) for number, silo in enumerate(rows)}
        test = _write(Path(folder) / "test.jsonl", [_row(each) for each in _one_of_each(holdings.test)])
        public = _write(Path(folder) / "auxiliary.jsonl", [_row(each) for each in holdings.auxiliary])
        data = Data(
            source=FileSource(path=test),
            task=_task(config.data.task),
            silos=Files(paths={silo: FileSource(path=path) for silo, path in paths.items()}),
            test=FileSource(path=test),
            auxiliary=FileSource(path=public),
            labels=Labels(alike="allow"),  # they are what the product made of them
            overlap="allow",
            max_tokens=config.data.max_tokens,
        )
        return gather_for(_read_as(config, data))


def tokens_of(prepared: Prepared, silo: str, planted: Sequence[Planted]) -> list[Tokens]:
    """Return the tokens by which a planted record is known."""
    answer = prepared.holdings.silos[silo][0].answer
    return prepared.encoder.encode([(each.text, answer) for each in planted])


def copies(records: Sequence[Tokens], planted: Sequence[Tokens]) -> tuple[int, int]:
    """Return how often the planted records stand among a silo's: the fewest times, and the most."""
    counted = Counter(records)
    times = [counted[each] for each in planted]
    return min(times), max(times)


def _short_words(prepared: Prepared, held: Sequence[Record]) -> list[str]:
    """Return words of the records, those of the fewest tokens first, as many as a prompt is made of."""
    found = sorted({word for record in held for word in record.prompt.split()})
    sizes = [len(each.prompt) for each in prepared.encoder.encode([(f"{word} {word}", " x") for word in found])]
    words = [word for _, word in sorted(zip(sizes, found, strict=True))][:WORDS]
    if len(words) < 2:
        raise ConfigError("data", f"expected records of two words or more, to make others of; got {len(words)}")
    return words


def _like(record: Record, planted: Planted) -> Record:
    return replace(record, prompt=planted.text, subject=planted.subject or record.subject)


def _one_of_each(records: Sequence[Record]) -> list[Record]:
    """Return a record of each answer: fewer would be fewer labels."""
    first = dict[str, Record]()
    for record in records:
        first.setdefault(record.answer, record)
    return list(first.values()) if len(records[0].answers) > 1 else list(records[:1])


def _row(record: Record) -> Row:
    answers = [answer.removeprefix(" ") for answer in record.answers]
    return {
        "prompt": record.prompt,
        "answer": answers[record.gold],
        "choices": answers,
        "gold": str(record.gold),
        "subject": record.subject or "",
    }


def _task(task: Task) -> Task:
    match task:
        case Classification():
            return Classification(prompt="{prompt}", label="answer")
        case MultipleChoice():
            return MultipleChoice(prompt="{prompt}", choices="choices", answer="gold")
        case FreeText():
            return FreeText(prompt="{prompt}", answer="{answer}")


def _read_as(config: Config, data: Data) -> Config:
    """Return the configuration over these rows; no record is kept from training."""
    privacy = config.privacy
    if isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject):
        privacy = replace(privacy, unit=PerSubject(column="subject"))
    return replace(config, data=data, privacy=privacy, evaluate=replace(config.evaluate, own=0.0, own_epsilon=0.0))


def _write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
