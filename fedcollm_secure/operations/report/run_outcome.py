"""How a run ended, in a headline and a few sentences: what was gained, how sure that is, and what it cost."""

from dataclasses import dataclass

from fedcollm_secure.operations.report.report_content import Gain, gains, most_spent, of_budget
from fedcollm_secure.operations.report.run_record import Record
from fedcollm_secure.presentation import epsilon_text, number_text
from fedcollm_secure.presentation.model_names import MODEL_NAMES
from fedcollm_secure.presentation.rate_interval import rate_interval


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the run ended: `state` is done, stopped or interrupted; `reason` may have several lines."""

    state: str
    headline: str
    reason: str
    sentence: str


def outcome(record: Record) -> Outcome:
    """Say in one line and one sentence how the run ended and what came of it."""
    of_planned = f"of {record.rounds_planned} " if record.rounds_planned else ""
    because = record.summary.text("stopped_because") if record.summary else None
    if record.summary is None:
        state, headline = "interrupted", f"Interrupted after {record.rounds_done} {of_planned}rounds"
    elif because:
        state, headline = "stopped", f"Stopped after {record.rounds_done} {of_planned}rounds"
    else:
        state, headline = "done", f"Completed {record.rounds_done} {of_planned}rounds"
    return Outcome(state=state, headline=headline, reason=because or "", sentence=_sentence(record))


def _sentence(record: Record) -> str:
    told = [_told(record, gain) for gain in gains(record)]
    if told:
        told.append(_whose_data(record))
    spent = most_spent(record)
    if spent is not None:
        told.append(f"No silo spent more than ε = {epsilon_text.spent(spent)}{of_budget(record)}.")
    if record.summary is None:
        told.append("The run wrote no summary: what follows is what it had recorded when it ended.")
    return " ".join(told)


def _told(record: Record, gain: Gain) -> str:
    """Say what a model gained, on how many test records, and how far chance over these reaches."""
    records = record.summary.child("data").whole("test_records") if record.summary else None
    sure = ""
    if records and gain.metric in number_text.PERCENT_SCORES:
        low, high = rate_interval(gain.after, records)
        bounds = f"{number_text.score(low, gain.metric).removesuffix(' %')} to {number_text.score(high, gain.metric)}"
        sure = f" (95 % interval {bounds} over {records:,} test records)"
    elif records:
        sure = f" ({records:,} test records)"
    return (
        f"The {MODEL_NAMES[gain.model].lower()} went from {number_text.score(gain.before, gain.metric)} to "
        f"{number_text.score(gain.after, gain.metric)} {number_text.metric_name(gain.metric)}{sure}."
    )


def _whose_data(record: Record) -> str:
    """Say who taught the models; one run cannot tell how much of the gain is whose."""
    own = record.summary.child("data").whole("server_records") if record.summary else None
    server = f"the server's own {own:,} labelled records" if own else "the server's own records"
    return (
        f"Both the silos' records and {server} taught them: one run does not tell how much of the gain is the silos' "
        "doing. A study with a control does."
    )
