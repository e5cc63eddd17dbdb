"""The file: tampering is found, and a process killed at any write point forgets nothing that it acted on."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import Disk, Ledger, RoundState, read_book
from fedcollm_privacy.plan import RecordPlan

PLAN = RecordPlan(
    epsilon=4.0,
    delta=1e-6,
    clip_norm=1.0,
    sampling_rate=0.05,
    noise_multiplier=1.0,
    steps_per_round=20,
    rounds=4,
    batch_size=8,
)


def open_ledger(path: Path, **changes: object) -> Ledger:
    terms: dict[str, object] = {"population": "ward 7", "epsilon": 4.0, "delta": 1e-5, "simulated": False} | changes
    return Ledger.open(path, **terms)  # type: ignore[arg-type]  # checked by open


def write_two_rounds(path: Path, disk: Disk | None = None, after: Callable[[str], None] = lambda _: None) -> None:
    """Run two rounds; `after` is told each call that returned, as a silo would act on it."""
    with open_ledger(path, disk=disk) as ledger:
        for number in (0, 1):
            ledger.reserve(session="s", round=number, plan=PLAN)
            after(f"train {number}")
            ledger.release(session="s", round=number, digest=f"update {number}")
            after(f"upload {number}")
            ledger.done(session="s", round=number)
            after(f"done {number}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_two_rounds(tmp_path / "ledger.jsonl")
    return tmp_path / "ledger.jsonl"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def flip(line: bytes) -> bytes:
    return line.replace(b'"round":0', b'"round":3').replace(b'"4.0"', b'"9.0"').replace(b'"round":1', b'"round":2')


@pytest.mark.parametrize("index", range(7))
def test_changed_line_is_found_by_its_index(path: Path, index: int) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:index], flip(lines[index]), *lines[index + 1 :]]))

    with pytest.raises(LedgerError, match=f"^ledger entry {index}: the line does not match its own hash") as refusal:
        read_book(path)
    assert refusal.value.first_bad == index
    with pytest.raises(LedgerError, match="does not match its own hash"):
        open_ledger(path)


@pytest.mark.parametrize("index", range(6))
def test_removed_line_is_found(path: Path, index: int) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:index] + lines[index + 1 :]))

    with pytest.raises(LedgerError, match=f"ledger entry {index}: expected index {index}"):
        read_book(path)


def test_swapped_lines_are_found(path: Path) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))

    with pytest.raises(LedgerError, match="ledger entry 2: expected index 2, got 3"):
        read_book(path)


def test_line_of_another_ledger_is_found(path: Path, tmp_path: Path) -> None:
    with open_ledger(tmp_path / "other.jsonl", population="ward 8") as other:
        other.reserve(session="s", round=0, plan=PLAN)
    path.write_bytes(b"".join([*lines_of(path)[:1], lines_of(tmp_path / "other.jsonl")[1]]))

    with pytest.raises(LedgerError, match="ledger entry 1: the chain is broken"):
        read_book(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "Expecting value"),
        (b"[]\n", "not a JSON object"),
        (b'{"index": 7}\n', "canonical form"),
        (b'{"index":7,"index":7}\n', "canonical form"),
        (b"\xff\n", "decode"),
    ],
)
def test_malformed_line_is_refused(path: Path, line: bytes, message: str) -> None:
    path.write_bytes(path.read_bytes() + line)

    with pytest.raises(LedgerError, match=f"ledger entry 7: .*{message}"):
        read_book(path)


def test_entry_that_understates_its_cost_is_found_even_with_a_correct_hash(path: Path) -> None:
    from fedcollm_privacy.ledger.entry import Reserved, decode, encode

    first, second = lines_of(path)[:2]
    _, head = decode(first.rstrip(), index=0, previous="0" * 64)
    entry, _ = decode(second.rstrip(), index=1, previous=head)
    assert isinstance(entry, Reserved)
    forged = Reserved(session="s", round=0, plan=entry.plan, epsilon_after=entry.epsilon_after / 2)
    path.write_bytes(first + encode(forged, index=1, previous=head)[0])

    with pytest.raises(LedgerError, match="ledger entry 1: the entry states epsilon"):
        read_book(path)


def test_entry_beyond_the_budget_is_found_even_with_a_correct_hash(path: Path) -> None:
    from fedcollm_privacy.ledger.entry import Opened, Reserved, encode

    opening, head = encode(Opened(population="p", epsilon=0.5, delta=1e-5, simulated=True), index=0, previous="0" * 64)
    forged = Reserved(session="s", round=0, plan=PLAN, epsilon_after=PLAN.epsilon_after(1))
    path.write_bytes(opening + encode(forged, index=1, previous=head)[0])

    with pytest.raises(LedgerError, match="ledger entry 1: this round was beyond the budget"):
        read_book(path)


@pytest.mark.parametrize(
    "terms", [{"population": "ward 8"}, {"epsilon": 5.0}, {"delta": 1e-4}, {"simulated": True}], ids=str
)
def test_ledger_of_another_population_or_budget_is_refused(path: Path, terms: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match="a budget is set once per population"):
        open_ledger(path, **terms)


@pytest.mark.parametrize("terms", [{"population": ""}, {"epsilon": 0.0}, {"delta": 1.0}], ids=str)
def test_impossible_budget_is_refused(tmp_path: Path, terms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(terms))):
        open_ledger(tmp_path / "new.jsonl", **terms)


def test_second_writer_is_refused_and_welcome_later(path: Path) -> None:
    with open_ledger(path), pytest.raises(LedgerError, match="in use by another process"):
        open_ledger(path)
    open_ledger(path).close()


def test_closed_ledger_cannot_be_written(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.close()
    with pytest.raises(LedgerError, match="open it again"):
        ledger.reserve(session="s", round=2, plan=PLAN)


def test_torn_last_line_is_cut_off(path: Path) -> None:
    whole = path.read_bytes()
    for cut in (1, 20, len(lines_of(path)[-1]) - 1):
        path.write_bytes(whole[:-cut])
        with open_ledger(path) as ledger:
            assert ledger.rows()[-1].state is RoundState.RELEASED
            ledger.done(session="s", round=1)
        assert path.read_bytes() == whole


def test_torn_line_in_the_middle_is_refused(path: Path) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:2], lines[2][:30] + b"\n", *lines[3:]]))

    with pytest.raises(LedgerError, match="ledger entry 2"):
        open_ledger(path)


def test_file_without_a_complete_line_is_new(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"delta":"1e-0')
    with open_ledger(path) as ledger:
        assert ledger.rows() == ()
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="no complete entry"):
        read_book(path)


def test_failed_write_stops_the_ledger_until_it_is_opened_again(tmp_path: Path) -> None:
    class Full(Disk):
        full = False

        def sync(self, descriptor: int) -> None:
            if self.full:
                raise OSError("no space left on device")
            super().sync(descriptor)

    disk = Full()
    ledger = open_ledger(tmp_path / "ledger.jsonl", disk=disk)
    disk.full = True
    with pytest.raises(LedgerError, match="could not be written"):
        ledger.reserve(session="s", round=0, plan=PLAN)
    disk.full = False
    with pytest.raises(LedgerError, match="open it again"):
        ledger.reserve(session="s", round=0, plan=PLAN)
    ledger.close()
    with open_ledger(tmp_path / "ledger.jsonl") as resumed:
        resumed.reserve(session="s", round=0, plan=PLAN)


class Recording(Disk):
    """Note the order of calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, descriptor: int, line: bytes) -> None:
        self.calls.append("write")
        super().write(descriptor, line)

    def sync(self, descriptor: int) -> None:
        self.calls.append("sync")
        super().sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        self.calls.append("sync folder")
        super().sync_folder(folder)


def test_every_line_is_synced_before_the_call_returns(tmp_path: Path) -> None:
    disk = Recording()
    seen: list[list[str]] = []

    def look(_: str) -> None:
        seen.append(disk.calls[:])
        disk.calls.clear()

    write_two_rounds(tmp_path / "ledger.jsonl", disk, look)

    assert seen[0] == ["sync", "write", "sync", "sync folder", "write", "sync"]
    assert seen[1:] == [["write", "sync"]] * 5


class Dying(Disk):
    """Kill the process with SIGKILL around the n-th call: before it, in the middle of a write, or after it."""

    def __init__(self, at: int, moment: str) -> None:
        self.left = at
        self.moment = moment

    def _pass(self, call: Callable[[], None], torn: Callable[[], None] | None = None) -> None:
        self.left -= 1
        if self.left or self.moment == "after":
            call()
        elif self.moment == "middle" and torn is not None:
            torn()
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor: int, line: bytes) -> None:
        self._pass(lambda: super(Dying, self).write(descriptor, line), lambda: os.write(descriptor, line[:-9]) and None)

    def truncate(self, descriptor: int, size: int) -> None:
        self._pass(lambda: super(Dying, self).truncate(descriptor, size))

    def sync(self, descriptor: int) -> None:
        self._pass(lambda: super(Dying, self).sync(descriptor))

    def sync_folder(self, folder: Path) -> None:
        self._pass(lambda: super(Dying, self).sync_folder(folder))


def killed_at(path: Path, diary: Path, at: int, moment: str) -> bool:
    """Run two rounds in a child that dies at its `at`-th disk call; tell whether it died. `diary` is what it did."""
    child = os.fork()
    if child == 0:
        with diary.open("a") as pen:
            write_two_rounds(path, Dying(at, moment), lambda deed: print(deed, file=pen, flush=True))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("moment", ["before", "middle", "after"])
def test_ledger_crash_at_every_write_point_forgets_nothing_that_was_acted_on(tmp_path: Path, moment: str) -> None:
    PLAN.epsilon_after(2)  # priced once, before the forks
    at = 1
    while True:
        path, diary = tmp_path / f"{at}.jsonl", tmp_path / f"{at}.txt"
        died = killed_at(path, diary, at, moment)
        deeds = diary.read_text().split("\n")
        with open_ledger(path) as ledger:
            states = {row.round: row.state for row in ledger.rows()}
            for number in (0, 1):
                if f"train {number}" in deeds:
                    assert number in states
                if f"upload {number}" in deeds:
                    assert states[number] in (RoundState.RELEASED, RoundState.DONE)
            assert ledger.epsilon_spent() == PLAN.epsilon_after(len(states))
        write_two_rounds(path)  # the same rounds again: they go through, and cost nothing more
        assert read_book(path).epsilon_spent() == PLAN.epsilon_after(2)
        if not died:
            break
        at += 1

    assert at > 14  # seven lines, each written and synced, and the folder


def test_ledger_crash_while_recovering_from_a_crash_is_harmless(tmp_path: Path) -> None:
    path, diary = tmp_path / "ledger.jsonl", tmp_path / "diary.txt"
    assert killed_at(path, diary, 8, "middle")
    for at in (1, 2):
        for moment in ("before", "after"):
            killed_at(path, diary, at, moment)
    write_two_rounds(path)

    assert read_book(path).epsilon_spent() == PLAN.epsilon_after(2)


def test_ledger_is_private_to_its_owner_and_holds_no_floats(path: Path) -> None:
    def refuse(text: str) -> float:
        raise AssertionError(text)

    assert path.stat().st_mode & 0o777 == 0o600
    for line in lines_of(path):
        json.loads(line, parse_float=refuse)
