from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import Encryption, Quantisation, RoundManifest, threshold


@pytest.mark.parametrize(("n", "t"), [(2, 2), (3, 3), (4, 3), (5, 4), (7, 5), (10, 7), (20, 14), (50, 34), (100, 67)])
def test_thresholds_are_those_of_the_table(n: int, t: int):
    assert threshold(n, 0, "malicious") == t


@given(st.integers(2, 200), st.integers(0, 198))
def test_two_quorums_always_share_an_honest_silo(n: int, colluding: int):
    if n < colluding + 2:
        with pytest.raises(ValueError, match="fewer than two are honest"):
            threshold(n, colluding, "malicious")
        return

    t = threshold(n, colluding, "malicious")

    assert n + colluding < 2 * t <= 2 * n
    assert 3 * t > 2 * n


@given(st.integers(2, 200), st.integers(0, 198))
def test_colluding_silos_alone_never_reach_the_threshold(n: int, colluding: int):
    if n >= colluding + 2:
        t = threshold(n, colluding, "semi_honest")
        assert max(colluding, n // 2) < t <= n


def test_the_rule_tolerates_a_third_of_colluders_at_no_cost():
    assert [threshold(n, -(-n // 3) - 1, "malicious") for n in (4, 5, 7, 10, 100)] == [3, 4, 5, 7, 67]


def test_a_manifest_survives_its_spelling(tools):
    manifest = tools.Consortium(5, linear_pass=1, log_checkpoint="tree of size 7").manifest

    assert RoundManifest.from_body(canonical.decode(canonical.encode(manifest.to_body()))) == manifest


def test_the_profile_is_written_only_where_it_is_not_the_classical_one(tools):
    classical, hybrid = tools.Consortium(5).manifest, tools.Consortium(5, post_quantum=True).manifest

    assert "profile" not in classical.to_body()
    assert RoundManifest.from_body(canonical.decode(canonical.encode(hybrid.to_body()))) == hybrid
    assert hybrid.to_body()["profile"] == "post_quantum"


def test_an_encryption_is_written_only_where_there_is_one(tools):
    plain = tools.Consortium(5).manifest
    encrypted = replace(plain, encryption=Encryption(decryptor="trent", parameters_hash="ee" * 32, key_hash="ff" * 32))

    assert "encryption" not in plain.to_body()
    assert RoundManifest.from_body(canonical.decode(canonical.encode(encrypted.to_body()))) == encrypted


def test_every_field_is_in_the_hash(tools):
    manifest = tools.Consortium(5).manifest
    changes: list[dict[str, object]] = [
        {name: "ee" * 32}
        for name in (
            "roster_hash",
            "policy_hash",
            "base_model_hash",
            "adapter_hash",
            "lora_schema_hash",
            "train_cfg_hash",
        )
    ]
    changes += [{"dp_plan_hash": "ee" * 32}, {"prev_result_hash": "ee" * 32}, {"log_checkpoint": "x"}, {"server": "x"}]
    changes += [
        {"consortium_id": "x"},
        {"session_id": "x"},
        {"epoch": 2},
        {"round": 9},
        {"attempt": 9},
        {"linear_pass": 9},
    ]
    changes += [{"cohort": manifest.cohort[:4], "threshold": 4}, {"k_min": 4}, {"threshold": 5}, {"colluding": 0}]
    changes += [{"adversary": "semi_honest"}, {"quantisation": replace(manifest.quantisation, clip=2.0)}]
    encryption = Encryption(decryptor="trent", parameters_hash="ee" * 32, key_hash="ee" * 32)
    changes += [{"profile": "post_quantum"}, {"encryption": encryption}]

    hashes = {replace(manifest, **change).hash for change in changes}  # type: ignore[arg-type]

    assert len(hashes | {manifest.hash}) == len(changes) + 1
    assert {name for change in changes for name in change} == {field.name for field in fields(RoundManifest)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cohort": ("b", "a")}, "alphabetical"),
        ({"cohort": ("a", "a")}, "distinct"),
        ({"cohort": ("a",)}, "two or more"),
        ({"roster_hash": "AA" * 32}, "lower-case hex"),
        ({"adapter_hash": "aa"}, "lower-case hex"),
        ({"threshold": 3}, r"threshold must be in \[4, 5\]"),
        ({"threshold": 6}, r"threshold must be in \[4, 5\]"),
        ({"k_min": 2}, r"k_min must be in \[n_c \+ 2, n\] = \[3, 5\]"),
        ({"k_min": 6}, "k_min"),
        ({"colluding": 4}, "fewer than two are honest"),
        ({"round": -1}, "count from 0"),
        ({"profile": "post-quantum"}, "profile must be"),
    ],
)
def test_a_manifest_that_no_silo_would_accept_is_refused(tools, change: dict[str, object], message: str):
    manifest = tools.Consortium(5).manifest

    with pytest.raises(ValueError, match=message):
        replace(manifest, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": 2}, "manifest.v"),
        ({"adversary": "friendly"}, "malicious or semi_honest"),
        ({"round": "1"}, "manifest.round"),
        ({"round": True}, "manifest.round"),
        ({"more": 1}, "unknown fields"),
        ({"profile": "classical"}, "manifest.profile"),
        ({"profile": ""}, "manifest.profile"),
        ({"threshold": 1}, "threshold must be in"),
        ({"quantisation": {}}, "ring_bits is missing"),
    ],
)
def test_a_malformed_manifest_is_the_enemys(tools, change: dict[str, object], message: str):
    body = tools.Consortium(5).manifest.to_body() | change

    with pytest.raises(ProtocolError, match=message):
        RoundManifest.from_body(body)


@pytest.mark.parametrize(
    "change",
    [
        {"clip": "one"},
        {"clip": "0x1p99999"},
        {"clip": "inf"},
        {"clip": "nan"},
        {"clip": "-0x1p0"},
        {"ring_bits": 48},
        {"length": 0},
        {"bits": 1},
        {"more": 1},
    ],
)
def test_a_malformed_encoding_is_the_enemys(change: dict[str, object]):
    body = Quantisation(ring_bits=64, bits=16, clip=1.0, max_weight=1, length=3).to_body() | change  # type: ignore[operator]

    with pytest.raises(ProtocolError, match="quantisation"):
        Quantisation.from_body(body)


def test_an_encoding_describes_itself():
    encoding = FixedPoint(clip=0.1, bits=20, ring_bits=64, max_weight=7, max_silos=3)

    assert Quantisation.of(encoding, 10) == Quantisation(ring_bits=64, bits=20, clip=0.1, max_weight=7, length=12)
