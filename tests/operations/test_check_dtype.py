"""bfloat16 on a processor without units for it: measured, and said."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedcollm_secure.config import parse
from fedcollm_secure.learning.dtype_speed import slowdown_of_bfloat16
from fedcollm_secure.operations import check_command
from fedcollm_secure.operations.check_command import check

Make = Callable[..., dict[str, object]]


@pytest.mark.parametrize(("times", "told"), [(6.7, True), (1.1, False)])
def test_check_says_where_bfloat16_is_slow(
    tree: Make, models: Path, monkeypatch: pytest.MonkeyPatch, times: float, told: bool
) -> None:
    sources = {"llm": {"from": str(models / "llm"), "dtype": "bfloat16"}, "slm": {"from": str(models / "slm")}}
    monkeypatch.setattr(check_command, "slowdown_of_bfloat16", lambda: times)
    warnings = check(parse(tree(models=sources)))["warnings"]
    line = "models.llm.dtype: a product in bfloat16 takes 6.7 times as long as in float32 on this processor"

    assert any(line in text for text in warnings) == told  # type: ignore[attr-defined]
    assert slowdown_of_bfloat16() > 0


def test_in_float32_nothing_is_measured(tree: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_command, "slowdown_of_bfloat16", lambda: pytest.fail("measured"))

    assert check(parse(tree()))["ok"]
