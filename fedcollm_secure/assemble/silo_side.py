"""One silo out of what it alone has, with what all agree on: the same in a simulation and on its own machine."""

from pathlib import Path

from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.stages import FileStages
from fedcollm_crypto.roster import Roster
from fedcollm_privacy.ledger import Ledger
from fedcollm_secure.assemble.cohort_size import SERVER
from fedcollm_secure.assemble.common import Common
from fedcollm_secure.assemble.parties import decryptor_end, expected_of, silo_end
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses
from fedcollm_secure.audit_log.journal import Journal
from fedcollm_secure.audit_log.log import origin
from fedcollm_secure.audit_log.witness import Witness
from fedcollm_secure.federation.decryptor import DecryptingParty
from fedcollm_secure.federation.gates import TrustRegion
from fedcollm_secure.federation.log_reader import LogReader
from fedcollm_secure.federation.open_round import Pending
from fedcollm_secure.federation.silo import Silo
from fedcollm_secure.federation.silo_setup import Budget, Learning, SiloMemory, SiloTerms
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import digest


def assemble_silo(
    *,
    common: Common,
    roster: Roster,
    identity: Identity,
    manifest: RoundManifest,
    learner: Learner,
    weight: int,
    ledger: Ledger | None,
    stages: FileStages,
    journal: Journal,
    pending: Path,
    worker: Worker,
    stopwatch: Stopwatch,
) -> Silo:
    """Return one silo; `ledger` is that of its data set, None where the plan asks for no differential privacy."""
    return Silo(
        name=identity.party,
        terms=SiloTerms(
            expected=expected_of(common, manifest),
            silos=roster.of_role("silo"),
            trust_region=_trust_region(common, learner),
            budget=None if common.plan is None or ledger is None else Budget(plan=common.plan, ledger=ledger),
        ),
        learning=Learning(
            learner=learner,
            parameters=common.parameters,
            rule=common.rule,
            encoding=common.encoding,
            weight=weight,
        ),
        memory=SiloMemory(
            stages=stages,
            journal=journal,
            witness=witness_of(identity, roster, manifest, journal),
            pending=Pending(pending),
        ),
        make_end=silo_end(common, roster, identity, stages, worker),
        stopwatch=stopwatch,
    )


def assemble_decryptor(
    *,
    common: Common,
    roster: Roster,
    identity: Identity,
    manifest: RoundManifest,
    stages: FileStages,
    journal: Journal,
    worker: Worker,
) -> DecryptingParty:
    """Return the decryptor: it holds no records and no model."""
    reader = LogReader(witness_of(identity, roster, manifest, journal), Witnesses.of(roster))
    end = decryptor_end(common, roster, identity, stages, worker, reader.require_logged)
    return DecryptingParty(end=end, reader=reader)


def witness_of(identity: Identity, roster: Roster, manifest: RoundManifest, journal: Journal) -> Witness:
    """Return a party's eye on the log, which the server of the roster keeps."""
    server = roster.member(SERVER)
    keeper = NoteKey(name=SERVER, ed25519=server.ed25519, mldsa44=server.mldsa44)
    return Witness(identity, keeper=keeper, origin=origin(manifest.session_id), journal=journal)


def record_weight(common: Common, records: int) -> int:
    """Return w of a silo with so many records: 1, or their number."""
    return 1 if common.config.silo.weighting == "uniform" else records


def _trust_region(common: Common, learner: Learner) -> TrustRegion | None:
    limit = common.config.gates.trust_region
    if limit is None:
        return None
    return TrustRegion(limit=limit, drift=learner.adapter.drift, initial_digest=digest(learner.adapter.read()))
