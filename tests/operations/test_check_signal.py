"""`check` says what a plan makes of its ε, and what would make more of it."""

from fedcollm_secure.operations.check_summary import _share


def test_a_poor_plan_is_told_what_a_larger_rate_would_bring() -> None:
    row = {"signal_share": 0.31, "sampling_rate": 0.05, "better_sampling": {"rate": 0.2, "share": 0.71}}

    (line,) = _share(row)

    assert line.startswith("plan: it has 31 % of the signal that its ε can buy; sampling_rate: 0.2 would have 71 %")
    assert line.endswith("for 4 times the records read")


def test_a_good_plan_is_told_its_share_alone() -> None:
    row = {"signal_share": 0.92, "sampling_rate": 0.5, "better_sampling": {}}

    assert _share(row) == ["plan: it has 92 % of the signal that its ε can buy"]


def test_a_plan_for_whole_silos_has_no_share() -> None:
    assert _share({"sampling_rate": 1.0}) == []
