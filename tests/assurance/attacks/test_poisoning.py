"""Poisoned updates: A12. They are bounded, not kept out."""

import numpy as np
import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_secure.assurance.attacks import poisoning


def test_one_silo_destroys_an_unbounded_mean() -> None:
    outcome = poisoning.against_twin()

    assert outcome.succeeded
    assert outcome.figures["shift_of_mean"] > 100
    assert outcome.figures["accuracy_before"] > 0.9
    assert outcome.figures["accuracy_after"] < 0.5


def test_through_the_encoder_one_silo_weighs_at_most_its_share_of_the_clip() -> None:
    outcome = poisoning.against_us()

    assert not outcome.succeeded
    assert outcome.reason == "clipped, out_of_range, norm_gate, auxiliary_loss_gate"
    assert 0 < outcome.figures["shift_of_mean"] <= outcome.figures["bound_on_shift"] == 0.4


def test_a_sum_out_of_range_is_refused() -> None:
    world = poisoning.make_world()

    with pytest.raises(ProtocolError, match="beyond what clipping allows"):
        poisoning.masked_mean(world, {"silo-01": poisoning.past_the_encoder(world, "silo-01", -1000.0)})


def test_an_honest_update_past_the_encoder_changes_nothing() -> None:
    world = poisoning.make_world()
    honest = {"silo-01": poisoning.past_the_encoder(world, "silo-01", 1.0)}

    assert np.array_equal(poisoning.masked_mean(world, honest), poisoning.masked_mean(world, {}))


def test_what_remains_is_a_bias_within_the_clip() -> None:
    figures = poisoning.against_us().figures

    assert figures["bound_on_shift"] < figures["shift_that_remains"] <= 2 * poisoning.CLIP
    assert figures["accuracy_that_remains"] < figures["accuracy_before"]  # the threat model says so
