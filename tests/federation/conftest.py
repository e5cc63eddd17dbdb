"""What the tests of the federation share."""

import pytest

from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest
from tests.witnessed_log import witnessed

__all__ = ["manifest", "witnessed"]


@pytest.fixture
def manifest() -> RoundManifest:
    """Return a round of three silos that names no model, plan or roster."""
    return RoundManifest(
        consortium_id="test",
        epoch=1,
        session_id="test",
        round=1,
        attempt=1,
        server="server",
        cohort=("north", "south", "west"),
        roster_hash="",
        policy_hash="",
        base_model_hash="",
        adapter_hash="",
        lora_schema_hash="",
        train_cfg_hash="",
        dp_plan_hash="",
        quantisation=Quantisation(ring_bits=64, bits=24, clip=1.0, max_weight=1, length=5),
        adversary="malicious",
        colluding=1,
        k_min=3,
        threshold=3,
    )
