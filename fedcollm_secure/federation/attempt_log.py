"""What the log says of an attempt while it runs: who answered each stage, over whom the sum is opened, what was opened.

stage_answered   before the next stage is asked for          sum_agreed   before any share, or the decryptor, is
sum_decrypted    at the end, with the decryptor's statement kept beside the log
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from fedcollm_crypto.aggregation import Chunks, Exchange, ServerEnd
from fedcollm_crypto.homomorphic.messages import Opened
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.signed import Signed
from fedcollm_secure.audit_log.events import StageAnswered, SumAgreed, SumDecrypted
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.federation.attestation import Attestation
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.transcript import Transcript


@dataclass(kw_only=True)
class AttemptLog:
    """One attempt; `decryptor` is its name, empty where nothing is encrypted."""

    log: AuditLog
    run: RunDirectory
    attestation: Attestation
    decryptor: str
    manifest: RoundManifest
    end: ServerEnd
    transcript: Transcript
    agreed: frozenset[str] = field(default=frozenset(), init=False)  # over whom the sum is to be opened
    _stage: int = field(default=0, init=False)  # the last that the log holds

    def following(self, exchange: Exchange) -> Exchange:
        """Return the exchange with each stage logged when it is over, and what was agreed before it is acted on."""

        def logged(requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
            self._log_stage()
            if self.end.survivors and not self.agreed:
                self.agreed = self.end.survivors
                self._log_agreed()
            return exchange(requests)

        return logged

    def close(self) -> None:
        """Log the last stage, and what the decryptor said, also of an attempt that failed."""
        self._log_stage()
        self._log_opening()

    def _log_stage(self) -> None:
        stage, replies = self.transcript.last_stage()
        if not replies or stage == self._stage:
            return
        self._stage = stage
        gone = self.end.dropped.keys() | self.end.convictions.keys()
        self.log.append(
            StageAnswered(
                round=self.manifest.round,
                attempt=self.manifest.attempt,
                stage=stage,
                accepted=tuple(party for party in replies if party not in gone),
                replies=replies,
            )
        )

    def _log_agreed(self) -> None:
        self.log.append(SumAgreed.of(self.manifest, self.agreed))
        if self.decryptor:
            self.attestation.keep()  # of the head that the silos were shown; the next one is another
            self.attestation.agree(sorted(self.agreed), self.decryptor)

    def _log_opening(self) -> None:
        found = self.end.decryption
        if found is None:
            return
        said = Opened.from_body(Signed.decode(found.statement).body)
        event = SumDecrypted(
            round=self.manifest.round,
            attempt=self.manifest.attempt,
            linear_pass=self.manifest.linear_pass,
            decryptor=found.decryptor,
            parameters_digest=found.parameters_hash,
            key_digest=found.key_hash,
            ciphertexts_digest=said.sum_hash.hex(),
            opened_digest=said.opened_hash.hex(),
            statement_digest=sha256(found.statement).hexdigest(),
        )
        self.run.save_statement(event.statement_digest, found.statement)
        self.log.append(event)
