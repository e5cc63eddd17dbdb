"""A silo is shown all lines since the last closed round, and no older round passes for the last one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto.canonical import decode, encode
from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking.stages import Released, Where
from fedcollm_crypto.merkle import Tree, leaf_hash
from fedcollm_privacy.ledger import Ledger
from fedcollm_secure.audit_log import unseen_lines
from fedcollm_secure.audit_log.events import RoundClosed, SumAgreed
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.log_entry import write_line
from fedcollm_secure.audit_log.unseen_lines import Proved, Recent, Told, hold_ledger, require_logged
from tests.witnessed_log import PLAN, round_closed

Begin = Callable[..., Any]
DIGEST = "cd" * 32


def closed(number: int, **ledgers: str) -> RoundClosed:
    return round_closed(number, ledgers=ledgers)


def agreed(number: int, *survivors: str) -> SumAgreed:
    return SumAgreed(round=number, attempt=1, linear_pass=0, adapter_digest=DIGEST, survivors=survivors)


def shown(log: Any) -> Recent:
    """Return what a silo is shown that has cosigned every head."""
    recent: Recent = log.log.recent(log.log.head.size)
    return recent


def told(recent: Recent, head: Checkpoint) -> Told:
    return recent.told(head, known=head.size)


def frontier(log: Any, first: int) -> tuple[bytes, ...]:
    """Return the hashes before any entry, not those alone at which an honest keeper begins."""
    return tuple(Tree(map(leaf_hash, log.log.recent(0).lines)).frontier(first))


def head_of(log: Any) -> Checkpoint:
    return Checkpoint.of(log.log.checkpoint().text)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.jsonl", population="north", epsilon=8.0, delta=1e-5, simulated=True) as opened:
        opened.reserve(session="s", round=1, plan=PLAN)
        yield opened


def test_the_last_closed_round_is_shown_with_all_lines_since(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "log").extend(1)
    log.log.append(closed(1))
    log.extend(2, 3)
    recent = shown(log)

    assert (recent.first, len(recent.lines)) == (2, 3)
    assert told(recent, head_of(log)).closed == closed(1)


def test_before_the_first_round_is_closed_everything_is_shown(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "log").extend(1)

    assert (shown(log).first, len(shown(log).lines)) == (0, 2)
    assert told(shown(log), head_of(log)).closed is None


def test_a_log_that_is_opened_again_shows_the_same(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "log").extend(1)
    log.log.append(closed(1))
    log.extend(2)
    log.log.close()
    again = AuditLog.open(tmp_path / "log" / "audit", log.keeper, "fedcollm-secure/test")

    assert again.recent(again.head.size) == shown(log)


def test_lines_survive_the_journey_and_nothing_else_does(witnessed: Begin, tmp_path: Path) -> None:
    recent = shown(witnessed(tmp_path / "log").extend(1))
    body: Any = decode(encode(recent.proved.to_body()))
    assert Recent.of(Proved.from_body(body), recent.text) == recent

    hashes: list[Any] = [["00"], ["00" * 32] * 65]
    bodies: list[Any] = [{"frontier": hashes[0]}, {"frontier": hashes[1]}, {"first": -1}, {"x": 1}]
    for wrong in bodies:
        with pytest.raises(ProtocolError, match="recent"):
            Proved.from_body({**body, **wrong})


def test_more_sums_than_any_run_has_are_refused(
    witnessed: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = witnessed(tmp_path / "log")
    for number in (1, 2, 3):
        log.log.append(agreed(number, "north", "south"))
    head = head_of(log)
    monkeypatch.setattr(unseen_lines, "MAX_SUMS", 3)
    assert len(told(shown(log), head).agreed) == 3
    monkeypatch.setattr(unseen_lines, "MAX_SUMS", 2)
    with pytest.raises(ProtocolError, match="at most 2 sums at once were expected, got 3"):
        told(shown(log), head)


def test_lines_beyond_the_bounds_are_refused_before_one_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unseen_lines, "MAX_LINES", 3)
    monkeypatch.setattr(unseen_lines, "MAX_LINES_BYTES", 8)
    proved = Proved(first=0, frontier=())

    assert Recent.of(proved, b"a\nb\ncd\n").lines == (b"a", b"b", b"cd")
    for text in (b"", b"\n\n\n\n", b"a\nb"):
        with pytest.raises(ProtocolError, match=f"1 to 3 whole lines were expected, got {text.count(10)}"):
            Recent.of(proved, text)
    with pytest.raises(ProtocolError, match="at most 8 bytes were expected, got 9"):
        Recent.of(proved, b"abcdefgh\n")


def test_a_keeper_that_did_not_sign_the_last_line_has_none_parsed(
    witnessed: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = witnessed(tmp_path / "log").extend(1)
    recent, head, read = shown(log), head_of(log), list[bytes]()

    def parse(line: bytes, **_: object) -> None:
        read.append(line)

    monkeypatch.setattr(unseen_lines, "read_unchained", parse)
    monkeypatch.setattr(unseen_lines, "read_line", parse)
    with pytest.raises(ProtocolError, match="these are not the entries from"):
        told(replace(recent, lines=(recent.lines[0], b"{}")), head)
    with pytest.raises(ProtocolError, match="and since known"):
        replace(recent, first=1, lines=recent.lines[1:]).told(head, known=0)
    assert read == []


def test_lines_that_the_head_does_not_cover_prove_nothing(witnessed: Begin, tmp_path: Path) -> None:
    log, other = witnessed(tmp_path / "log").extend(1), witnessed(tmp_path / "other").extend(2)
    recent, head = shown(log), head_of(log)

    with pytest.raises(ProtocolError, match="these are not the entries from"):
        told(shown(other), head)
    with pytest.raises(ProtocolError, match="expected lines up to entry 2, got 1"):
        told(replace(recent, lines=recent.lines[:1]), head)
    with pytest.raises(ProtocolError, match="these are not the entries from"):
        told(replace(recent, lines=(recent.lines[0].replace(b"masked", b"forged"), recent.lines[1])), head)


def test_lines_of_a_chain_that_is_not_the_tree_are_refused(witnessed: Begin, tmp_path: Path) -> None:
    """A keeper may sign any tree: each line shown names the one before, and one of them is no leaf."""
    log = witnessed(tmp_path / "log").extend(3)
    honest = shown(log)
    swapped = write_line(closed(1), index=1, previous=leaf_hash(honest.lines[0]), time="2026-01-31T12:00:00Z")
    last = write_line(closed(2), index=2, previous=leaf_hash(swapped), time="2026-01-31T12:00:00Z")
    tree = Tree(map(leaf_hash, (honest.lines[0], honest.lines[1], last)))
    head = Checkpoint(origin=head_of(log).origin, size=3, root=tree.root())
    public = replace(honest, lines=(honest.lines[0], honest.lines[1], last))

    with pytest.raises(ProtocolError, match="these are not the entries from 0 on"):
        replace(honest, lines=(honest.lines[0], swapped, last)).told(head, known=0)
    with pytest.raises(ProtocolError, match="does not follow"):
        public.told(head, known=0)  # the leaves themselves make no chain


def test_an_older_round_does_not_pass_for_the_last_one(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "log")
    log.log.append(closed(1))
    older = shown(log.extend(2))
    log.log.append(closed(2))
    head, recent = head_of(log), shown(log)
    longer = replace(older, lines=(*older.lines, *recent.lines))

    assert told(longer, head).closed == closed(2)  # all lines to the head: the last that closes a round is the last
    with pytest.raises(ProtocolError, match="expected lines up to entry"):
        told(older, head)
    tail = shown(log.extend(3))
    head = head_of(log)
    with pytest.raises(ProtocolError, match="all lines since"):  # a tail that leaves the closing line out
        told(replace(tail, first=tail.first + 1, lines=tail.lines[1:], frontier=frontier(log, tail.first + 1)), head)


def test_a_silo_that_was_away_is_shown_all_that_it_has_not_seen(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "log").extend(1)
    log.log.append(agreed(1, "north", "south"))
    log.log.append(closed(1))
    log.log.append(agreed(2, "north", "west"))
    log.log.append(closed(2))
    head = head_of(log)

    assert [one.round for one in log.log.recent(2).told(head, known=2).agreed] == [1, 2]
    assert [one.round for one in log.log.recent(head.size).told(head, known=head.size).agreed] == []
    with pytest.raises(ProtocolError, match="and since known"):  # the server leaves out what this silo missed
        log.log.recent(head.size).told(head, known=2)


def released(number: int, *survivors: str, adapter: str = DIGEST) -> Released:
    where = Where(session_id="s", round=number, attempt=1, linear_pass=0)
    return Released(where=where, model_version=adapter, survivors=survivors, dp_plan_hash="")


def test_a_sum_that_the_log_names_as_it_was_may_be_followed_by_another() -> None:
    require_logged([released(1, "north", "south")], [agreed(1, "south", "north"), agreed(2, "west")])


@pytest.mark.parametrize(
    "names",
    [[], ["other silos"], ["another adapter"], ["another round"]],
    ids=lambda names: "".join(names) or "nothing",
)
def test_a_sum_that_the_log_does_not_name_as_it_was_is_followed_by_none(names: list[str]) -> None:
    lies = {
        "other silos": agreed(1, "north"),
        "another adapter": replace(agreed(1, "north", "south"), adapter_digest="ab" * 32),
        "another round": agreed(2, "north", "south"),
    }

    with pytest.raises(Refused, match="the log does not name it as it was") as refused:
        require_logged([released(1, "north", "south")], [lies[name] for name in names])
    assert refused.value.reason_code == "unlogged_sum"


def test_a_ledger_that_holds_the_committed_head_may_go_on(witnessed: Begin, tmp_path: Path, ledger: Ledger) -> None:
    log = witnessed(tmp_path / "log")
    log.log.append(closed(1, north=ledger.head))
    ledger.release(session="s", round=1, digest=DIGEST)  # it may have gone on since
    head = head_of(log)

    hold_ledger(ledger, "north", told(shown(log), head).closed)
    hold_ledger(ledger, "south", told(shown(log), head).closed)  # the log commits to no head of it


def test_a_ledger_without_the_committed_head_is_refused(witnessed: Begin, tmp_path: Path, ledger: Ledger) -> None:
    log = witnessed(tmp_path / "log")
    log.log.append(closed(1, north=DIGEST))
    head = head_of(log)

    with pytest.raises(Refused, match="round 1 commits to ledger head cdcdcdcdcdcdcdcd for north") as refused:
        hold_ledger(ledger, "north", told(shown(log), head).closed)
    assert refused.value.reason_code == "ledger_rolled_back"


@pytest.mark.parametrize("beginning", [1, 3])
def test_another_round_than_the_next_is_refused(
    witnessed: Begin, tmp_path: Path, ledger: Ledger, beginning: int
) -> None:
    log = witnessed(tmp_path / "log")
    log.log.append(closed(1, north=ledger.head))
    head = head_of(log)

    with pytest.raises(
        ProtocolError, match=f"round {beginning} was to begin, and the log says that round 1 closed last"
    ):
        told(shown(log), head).require_next(beginning)


def test_what_the_server_leaves_out_or_closes_again_the_journal_still_says(
    witnessed: Begin, tmp_path: Path, ledger: Ledger
) -> None:
    log, old = witnessed(tmp_path / "log"), ledger.head
    log.log.append(closed(1, north=old))
    log.log.append(closed(2, north=DIGEST))
    log.log.append(closed(1, north=old))  # the server writes the log
    head, recent = head_of(log), shown(log)

    hold_ledger(ledger, "north", told(recent, head).closed, remembered=old)
    with pytest.raises(Refused, match="its own journal commits to ledger head cdcdcdcdcdcdcdcd") as refused:
        hold_ledger(ledger, "north", told(recent, head).closed, remembered=DIGEST)
    assert refused.value.reason_code == "ledger_rolled_back"
