"""What the decryptor knows of the log: it opens a sum only where the log names it."""

from collections.abc import Collection

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.checkpoint import Checkpoint, cosigners
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.note import Note
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses
from fedcollm_secure.audit_log.events import RoundStarted, SumAgreed
from fedcollm_secure.audit_log.unseen_lines import Told
from fedcollm_secure.audit_log.witness import View, Witness


class LogReader:
    """What the decryptor knows of the log.

    Guarantee: it opens a sum only over silos that the log names for it, under a head that a quorum of the roster's
    silos cosigned, in an attempt that the log says began from the head that this party was shown too. Any other log
    has a quorum that shares an honest silo with this one, so there is none, and whoever joins later learns of the sum.
    That holds also if the server lies and up to n_c silos do, while journals are not put back.
    """

    def __init__(self, witness: Witness, silos: Witnesses) -> None:
        """Follow the log from the head that the witness remembers; what came before is not asked for again."""
        self._witness = witness
        self._silos = silos
        self._heads: set[str] = set()
        self._begun: set[RoundStarted] = set()
        self._agreed: set[SumAgreed] = set()  # under a head that a quorum of silos cosigned

    @property
    def size(self) -> int:
        """Return the size of the last head that was kept."""
        return self._witness.head.size

    def follow(self, view: View) -> None:
        """Keep a head, and what its lines say. Raises: Refused, ProtocolError."""
        told = self._told(view, self._witness.check(view))
        head = self._witness.follow(view)
        self._heads.add(head.text)
        self._begun.update(told.begun)
        if quorum_cosigned(view.note, self._silos):
            self._agreed.update(told.agreed)

    def require_logged(self, manifest: RoundManifest, survivors: Collection[PartyId]) -> None:
        """Raise Refused with `unlogged_sum` unless the log names this attempt, and this sum as agreed."""
        where = manifest.round, manifest.attempt
        if manifest.log_checkpoint not in self._heads:
            raise Refused("unlogged_sum", "the manifest names a head of the log that the decryptor was not shown")
        digest = manifest.terms_hash.hex()
        if not any((one.round, one.attempt, one.manifest_digest) == (*where, digest) for one in self._begun):
            raise Refused("unlogged_sum", f"the log does not say that round {where[0]}, attempt {where[1]} began so")
        of_pass = (*where, manifest.linear_pass)
        named = [one for one in self._agreed if (one.round, one.attempt, one.linear_pass) == of_pass]
        asked = manifest.adapter_hash, sorted(survivors)
        if len(named) != 1 or (named[0].adapter_digest, sorted(named[0].survivors)) != asked:
            raise Refused(
                "unlogged_sum",
                f"the log does not name one sum of round {where[0]}, attempt {where[1]} over these silos: who joins "
                "later could not know of it. Nothing was opened",
            )

    def _told(self, view: View, head: Checkpoint) -> Told:
        if view.recent is None:
            raise ProtocolError("view: expected the log's recent lines")
        return view.recent.told(head, known=self.size)


def quorum_cosigned(note: str, silos: Witnesses) -> bool:
    """Return whether a quorum of the roster's silos cosigned this head."""
    return len(cosigners(Note.decode(note), silos.keys)) >= silos.quorum
