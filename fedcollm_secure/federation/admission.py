"""What a silo checks of an attempt before it begins it, in one list; and what it then does, which nothing precedes.

The protocol's own rules and the invariant over all sums come first (`masking.silo_stages.greet`). These are the ones
that know models, the log and the ledger. All of them read the one manifest that the server signed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.homomorphic.commitments import COMMIT_REQUEST
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Expected, Pledge
from fedcollm_crypto.masking.requests import ASK_VECTOR
from fedcollm_crypto.masking.stages import Answered, Heard, Released, StageEntry, Where
from fedcollm_crypto.note import Note
from fedcollm_secure.audit_log.events import SumAgreed
from fedcollm_secure.audit_log.journal import AttemptJoined
from fedcollm_secure.audit_log.unseen_lines import Told, hold_ledger, require_logged, require_one_story
from fedcollm_secure.audit_log.witness import View, Witness
from fedcollm_secure.federation.messages import Begin
from fedcollm_secure.federation.silo_setup import Learning, SiloMemory, SiloTerms
from fedcollm_secure.learning.factors import Pass
from fedcollm_secure.learning.vectors import digest

SENDING = {ASK_VECTOR, COMMIT_REQUEST}
"""Stages after which a silo's vector may have left it."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """One silo's say over an attempt.

    Guarantee: an attempt that does not pass leaves no trace: nothing is cosigned, reserved or journalled for it.
    """

    name: str
    terms: SiloTerms
    learning: Learning
    memory: SiloMemory

    def expect(self, manifest: RoundManifest, begin: Begin) -> Expected:
        """Return what the manifest must say of the adapter and the basis that came. Raises: ProtocolError."""
        asked, rule, expected = pass_of(manifest, begin), self.learning.rule, self.terms.expected
        if not rule.fits(asked):
            raise ProtocolError(
                f"manifest: pass {asked.number} with {asked.basis.size} entries of a basis: no such pass"
            )
        length = self.learning.encoding.length(rule.length(asked))
        return replace(
            expected,
            adapter_hash=digest(begin.adapter),
            lora_schema_hash=asked.schema_digest(expected.lora_schema_hash),
            quantisation=replace(expected.quantisation, length=length),
        )

    def check(self, manifest: RoundManifest, begin: Begin) -> Told:
        """Follow the list, and return what the log tells. Raises: Refused, ProtocolError."""
        memory, terms = self.memory, self.terms
        # (1) The vectors are such as one can train from.
        finite = np.isfinite(begin.adapter).all() and np.isfinite(begin.basis).all()
        if len(begin.adapter) != self.learning.parameters or not finite:
            raise ProtocolError(
                f"manifest: expected an adapter of {self.learning.parameters} values and a basis, all of them finite"
            )
        # (2) All silos of the attempt are shown one head of the log; it grew out of the one that this silo knows.
        require_named_head(manifest, begin.view)
        told = self._told(begin.view)
        told.require_next(manifest.round)
        # (3) It names every sum that this silo helped to open, each once and none beforehand, and the average that the
        #     model was distilled from.
        told.require_before(manifest.order)
        self._require_sums(told)
        if terms.trust_region is not None:
            averaged = told.closed.averaged_digest if told.closed else ""
            terms.trust_region.check(manifest, begin.adapter, begin.reference, averaged)
        # (4) The ledger is no older copy.
        if terms.budget is not None:
            hold_ledger(terms.budget.ledger, self.name, told.closed, remembered=memory.journal.last_ledger)
        return told

    def act(self, manifest: RoundManifest, begin: Begin, told: Told) -> str:
        """Reserve the round, remember, cosign; return the cosignature of the head. Raises: PrivacyError."""
        memory, budget = self.memory, self.terms.budget
        if budget is not None:  # may still refuse, and comes first for that
            session = self.terms.expected.session_id
            budget.ledger.reserve(session=session, round=manifest.round, plan=budget.plan)
        heard = set(self._heard())
        for entry in map(self._entry, told.agreed):
            if entry not in heard:
                memory.stages.append(entry)
        lines = cosignature(memory.witness, begin.view)
        digest_of = manifest.terms_hash.hex()
        memory.journal.append(AttemptJoined(round=manifest.round, attempt=manifest.attempt, manifest_digest=digest_of))
        return lines

    def cosign(self, view: View) -> str:
        """Return the cosignature of a head that is shown outside of an attempt.

        Guarantee: as for one that begins an attempt: never of a log in which a sum that this silo has helped to open in
        this session is missing, is over other silos or of another model, or is named in two ways.
        Raises: Refused, ProtocolError; then nothing was cosigned.
        """
        self._require_sums(self._told(view))
        return cosignature(self.memory.witness, view)

    def pledge(self) -> Pledge:
        """Return what this silo's hello says of its ledger and the log."""
        budget = self.terms.budget
        head = budget.ledger.head if budget is not None else ""
        return Pledge(ledger_reservation_hash=head, cosignature=self.memory.witness.last_line)

    def _told(self, view: View) -> Told:
        """Return what the lines tell of a log that grew out of the one that this silo knows."""
        head = self.memory.witness.check(view)
        if view.recent is None:
            raise ProtocolError("view: expected the log's recent lines")
        return view.recent.told(head, known=self.memory.journal.heard_size)

    def _require_sums(self, told: Told) -> None:
        """Hold the log to every sum that this silo helped to open, and to what it heard of those of others.

        What it hears it holds to in every later session, so a sum over strangers, which nobody can have opened, is
        refused: its server could keep this silo from ever summing again.
        """
        if strangers := {party for one in told.agreed for party in one.survivors} - self.terms.silos:
            raise ProtocolError(f"recent: a sum is named over {len(strangers)} parties that are no silos of the roster")
        require_one_story([*self._heard(), *map(self._entry, told.agreed)])
        require_logged(self._not_yet_heard(), told.agreed)

    def _not_yet_heard(self) -> list[Released]:
        """Return the sums of this session that this silo helped to open and has not found in the log yet."""
        heard, session = {entry.where for entry in self._heard()}, self.terms.expected.session_id
        mine = (entry for entry in self.memory.stages.entries() if isinstance(entry, Released))
        return [entry for entry in mine if entry.where.session_id == session and entry.where not in heard]

    def _heard(self) -> list[Heard]:
        return [entry for entry in self.memory.stages.entries() if isinstance(entry, Heard)]

    def _entry(self, told: SumAgreed) -> Heard:
        where = Where(
            session_id=self.terms.expected.session_id,
            round=told.round,
            attempt=told.attempt,
            linear_pass=told.linear_pass,
        )
        return Heard(
            where=where,
            model_version=told.adapter_digest,
            survivors=tuple(sorted(told.survivors)),
            dp_plan_hash=self.terms.expected.dp_plan_hash,
        )


def require_named_head(manifest: RoundManifest, view: View) -> None:
    """Stop a round under two views of the log: the manifest, which all sign, names one head. Raises: ProtocolError."""
    if manifest.log_checkpoint != Note.decode(view.note).text:
        raise ProtocolError("manifest: it names another head of the log than the one that came")


def require_nothing_sent(entries: Iterable[StageEntry], manifest: RoundManifest) -> None:
    """Stop a second vector for a round of which one was sent and then lost: it would be another look at the records.

    Raises: Refused with `kept_lost`.
    """
    this = (manifest.session_id, manifest.round)
    sent = (entry for entry in entries if isinstance(entry, Answered) and entry.stage in SENDING)
    if any((entry.where.session_id, entry.where.round) == this for entry in sent):
        raise Refused(
            "kept_lost",
            f"what this silo sent in round {manifest.round} is gone from its disk; to train again and send another "
            "would spend the round twice. Put pending.npz back, or go on with the next round",
        )


def pass_of(manifest: RoundManifest, begin: Begin) -> Pass:
    """Return the linear pass that a manifest names, with the basis that came with it."""
    return Pass(round=manifest.round, number=manifest.linear_pass, basis=begin.basis)


def cosignature(witness: Witness, view: View) -> str:
    """Return the signature lines under a head that a silo cosigns. Raises: Refused, ProtocolError."""
    return "".join(line.encode() for line in witness.cosign(view))
