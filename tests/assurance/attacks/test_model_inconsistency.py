"""All silos train one model: A2. Two barriers, taken away one after the other."""

from dataclasses import replace

import pytest

from fedcollm_crypto.masking import rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_secure.assurance.attacks import inconsistent_models
from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, random_updates


def test_in_the_twin_the_sum_is_one_silos_update() -> None:
    outcome = inconsistent_models.against_twin()

    assert outcome.succeeded
    assert 0 < outcome.figures["max_abs_error"] < 1e-7


def test_silos_that_were_shown_two_models_refuse() -> None:
    outcome = inconsistent_models.against_us()

    assert not outcome.succeeded
    assert (outcome.reason, outcome.figures["refusals"]) == ("other_manifest", 5)


def test_without_the_rule_masks_of_two_models_do_not_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "require_one_manifest", lambda *_: None)
    outcome = inconsistent_models.against_us()

    assert not outcome.succeeded
    assert outcome.reason == "masks_do_not_cancel"
    assert outcome.figures["max_abs_error"] > 1e6


def test_without_both_barriers_the_attack_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "require_one_manifest", lambda *_: None)
    bound = hashes.pair_mask_key
    monkeypatch.setattr(hashes, "pair_mask_key", lambda shared, t, _, one, other: bound(shared, t, b"", one, other))

    assert inconsistent_models.against_us().succeeded


def test_masks_of_one_model_do_cancel() -> None:
    consortium = Consortium({name: update * (name == "silo-01") for name, update in random_updates(5).items()})
    usual = consortium.manifest()
    special = replace(usual, adapter_hash="66" * 32)

    assert inconsistent_models.error_of_masks_alone(usual, usual, consortium) < 1e-7
    assert inconsistent_models.error_of_masks_alone(usual, special, consortium) > 1e6
