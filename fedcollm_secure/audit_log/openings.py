"""Hold what the log says of a sum's opening against what the decryptor signed.

sum_decrypted   follows a sum_agreed of the same attempt and pass; its statement lies under audit/statements/, is signed
                by the decryptor of the roster, and is of the manifest that the log names, under the key that it names
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.messages import Opened
from fedcollm_crypto.masking.manifest import Encryption
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RoundClosed, SumAgreed, SumDecrypted
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.roster_and_manifests import MANIFESTS, read_manifest
from fedcollm_secure.errors import LogError

STATEMENTS = "statements"


def check_openings(audit: Path, entries: Sequence[Entry], roster: Roster | None) -> list[str]:
    """Verify the statement of each opening; return which statements, or the roster, are missing. Raises: LogError."""
    missing: list[str] = []
    order = _Order()
    for entry in entries:
        order.take(entry)
        if isinstance(entry.event, SumDecrypted):
            path = audit / STATEMENTS / f"{entry.event.statement_digest}.json"
            if roster is None or not untrusted_files.is_there(path):
                missing.append(f"{STATEMENTS}/{path.name} is missing" if roster else "no roster to check an opening by")
                continue
            try:
                _check_statement(audit, untrusted_files.read_regular(path), entry.event, roster)
            except (ProtocolError, ValueError) as error:
                raise LogError(f"the statement of {entry.event.decryptor}: {error}", entry.index) from error
    return missing


class _Order:
    """What was agreed and opened in the round that is not closed yet."""

    def __init__(self) -> None:
        self._agreed: set[tuple[int, int, int]] = set()
        self._opened: set[tuple[int, int]] = set()

    def take(self, entry: Entry) -> None:
        match entry.event:
            case RoundClosed():
                self._agreed, self._opened = set(), set()
            case SumAgreed() as one:
                self._agreed.add((one.round, one.attempt, one.linear_pass))
            case SumDecrypted() as one:
                self._open(one, entry.index)
            case _:
                pass

    def _open(self, one: SumDecrypted, index: int) -> None:
        told = f"a sum of round {one.round}, attempt {one.attempt} was opened"
        if (one.round, one.attempt, one.linear_pass) not in self._agreed:
            raise LogError(f"{told}, and no silos agreed to it", index)
        if (one.round, one.attempt) in self._opened:
            raise LogError(f"{told} twice", index)
        self._opened.add((one.round, one.attempt))


def _check_statement(audit: Path, data: bytes, event: SumDecrypted, roster: Roster) -> None:
    if sha256(data).hexdigest() != event.statement_digest:
        raise ProtocolError("it was changed: it is not the one that the log names")
    signed = Signed.decode(data)
    if (
        signed.kind != Opened.KIND
        or signed.sender != event.decryptor
        or roster.member(signed.sender).role != "decryptor"
    ):
        raise ProtocolError("it is not by the decryptor that the log names")
    signed.verify(roster.key(signed.sender))
    said = Opened.from_body(signed.body)
    if (said.sum_hash.hex(), said.opened_hash.hex()) != (event.ciphertexts_digest, event.opened_digest):
        raise ProtocolError("it is about another sum than the log says")
    path = audit / MANIFESTS / f"{event.round}-{event.attempt}.json"
    if not untrusted_files.is_there(path):
        return  # that it is missing, `check_manifests` says
    named = Encryption(decryptor=event.decryptor, parameters_hash=event.parameters_digest, key_hash=event.key_digest)
    if said.manifest_hash != replace(read_manifest(path), encryption=named).hash:
        raise ProtocolError("it is of another manifest, or under another key, than the log says")
