"""Gradients of records as Opacus takes them: the same numbers as ours, for more layers, clipped by us."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from fedcollm_privacy import dpsgd, from_opacus
from fedcollm_privacy.errors import NotPerRecord
from fedcollm_privacy.from_opacus import hooked
from fedcollm_privacy.one_by_one import gradient
from fedcollm_privacy.per_record import couples_records, gradient_of, tapped
from fedcollm_privacy.probe import probe
from tests.privacy.test_dpsgd import CLIP, PLAN, descend, seeded
from tests.privacy.test_one_by_one import Routed

LENGTH, WIDTH, WORDS = 5, 6, 11


class Small(nn.Module):
    """An embedding with a row that never trains, a norm of a kind of its own, a linear layer: all of them trained."""

    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))

        def forward(self, rows: Tensor) -> Tensor:
            return rows / rows.square().mean(dim=-1, keepdim=True).add(1e-3).sqrt() * self.weight

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(WORDS, WIDTH, padding_idx=0), self.Norm()
        self.layer_norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layer_norm(self.norm(self.words(ids)))).square().sum(dim=(1, 2))


@pytest.fixture
def small() -> Small:
    torch.manual_seed(2)
    return Small()


def losses_of(model: nn.Module, records: int = 8) -> Callable[[Sequence[int]], Tensor]:
    ids = torch.randint(0, WORDS, (records, LENGTH), generator=torch.Generator().manual_seed(4))
    ids[0, 0] = 0  # the row that never trains, as a record's own word
    return lambda indices: model(ids[list(indices)])


def by_hand(losses: Callable[[Sequence[int]], Tensor], parameters: Sequence[nn.Parameter], units, clip: float):  # type: ignore[no-untyped-def]
    total = torch.zeros(sum(each.numel() for each in parameters), dtype=torch.float64)
    for records in units:
        flat = torch.cat([part.reshape(-1) for part in gradient(losses(records).mean(), parameters)])
        total += flat * min(1.0, clip / float(flat.norm()))
    return total


def by_opacus(model: nn.Module, losses, units, clip: float, microbatch: int | None = None) -> Tensor:  # type: ignore[no-untyped-def]
    parameters = list(model.parameters())
    with hooked(model, parameters) as source:
        parts = dpsgd._batch_sum(units, losses, source, clip, microbatch, parameters)
    return torch.cat([part.reshape(-1) for part in parts])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_each_record_has_the_gradient_that_ours_gives_it(build, kind: str) -> None:  # type: ignore[no-untyped-def]
    subject = build(kind)
    parameters, records = subject.parameters(), [0, 1, 2, 3]
    with tapped(dpsgd.linear_layers(subject.model, parameters)) as taps:
        ours = [gradient_of(_fresh(subject, taps, records), taps, place) for place in range(4)]
    with hooked(subject.model, parameters) as source:
        theirs = source.gradients(subject.losses(records))

    for place, one in enumerate(ours):
        for parameter in parameters:
            assert torch.allclose(one[parameter], theirs[parameter][place].double(), rtol=1e-4, atol=1e-7)


def _fresh(subject, taps, records: list[int]) -> Tensor:  # type: ignore[no-untyped-def]
    taps.clear()
    return subject.losses(records)


@pytest.mark.parametrize("units", [[(0,), (1,), (2,)], [(0, 1), (2, 3, 4), (5,)]], ids=["records", "persons"])
@pytest.mark.parametrize("microbatch", [None, 4])
def test_embeddings_and_norms_are_clipped_with_all_else(small: Small, units, microbatch: int | None) -> None:  # type: ignore[no-untyped-def]
    losses, parameters = losses_of(small), list(small.parameters())
    clip = 0.5 * float(by_hand(losses, parameters, [(1,)], 1e9).norm())
    found, expected = by_opacus(small, losses, units, clip, microbatch), by_hand(losses, parameters, units, clip)

    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, by_hand(losses, parameters, units, 1e9), rtol=1e-3)


def test_one_record_more_changes_the_sum_by_the_clip_norm_and_a_sabotaged_clip_shows(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, clip = losses_of(small), 0.01

    def influence() -> float:
        with_it, without = by_opacus(small, losses, [(1,), (2,)], clip, 4), by_opacus(small, losses, [(1,)], clip, 4)
        return float((with_it - without).norm())

    assert 0.999 * clip < influence() <= clip
    monkeypatch.setattr(from_opacus, "clip_factors", lambda squared, clip_norm, usable: torch.ones_like(squared))
    assert influence() > 10 * clip


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_record_that_is_not_finite_counts_as_zero(poison: float) -> None:
    model, data = nn.Linear(3, 2), torch.randn(3, 3)
    data[1, 0] = poison

    def losses(indices: Sequence[int]) -> Tensor:
        return model(data[list(indices)]).square().sum(dim=1)

    assert torch.equal(by_opacus(model, losses, [(0,), (1,), (2,)], 1.0), by_opacus(model, losses, [(0,), (2,)], 1.0))


def test_training_by_opacus_takes_our_step(build) -> None:  # type: ignore[no-untyped-def]
    ours = descend(build(), random=seeded(5), microbatch=4)
    theirs = descend(build(), random=seeded(5), microbatch=4, gradients="opacus")

    assert torch.allclose(ours, theirs, atol=1e-6)
    assert float(ours.norm()) > 0


def test_nothing_stays_behind(small: Small) -> None:
    small.eval()
    before = {id(each): set(vars(each)) for each in (*small.modules(), *small.parameters())}
    by_opacus(small, losses_of(small), [(0,), (1,)], 1.0)

    assert {id(each): set(vars(each)) for each in (*small.modules(), *small.parameters())} == before
    assert not any(module.training or module._forward_hooks or module._backward_hooks for module in small.modules())
    assert all(each.grad is None for each in small.parameters())


def test_a_pass_that_nobody_went_back_through_leaves_no_trace_in_the_next(small: Small) -> None:
    losses, parameters = losses_of(small), list(small.parameters())
    with hooked(small, parameters) as source:
        losses([3, 4])
        source.clear()
        found = source.gradients(losses([1]))

    assert torch.allclose(found[small.words.weight][0].double(), gradient(losses([1])[0], parameters)[0], atol=1e-6)


def test_a_probe_accepts_what_opacus_knows_and_refuses_a_router(small: Small) -> None:
    torch.manual_seed(3)
    routed, data = Routed(), torch.randn(4, 3, 3)
    trained = [each for each in routed.parameters() if each.requires_grad]

    assert _asked(small, losses_of(small), list(small.parameters()), "opacus") == ""
    assert "only nn.Linear layers" in _asked(small, losses_of(small), list(small.parameters()), "linear")
    assert _asked(routed, lambda indices: routed.losses(data[list(indices)]), trained, "opacus") != ""


def _asked(model: nn.Module, losses, parameters: list[nn.Parameter], gradients: dpsgd.Gradients) -> str:  # type: ignore[no-untyped-def]
    return probe(model=model, parameters=parameters, losses=losses, rows=4, dtype=torch.float32, gradients=gradients)


def test_losses_that_couple_records_are_seen(small: Small) -> None:
    losses = losses_of(small)

    with hooked(small, list(small.parameters())) as source:
        assert not couples_records(losses([0, 1]), source)
        assert couples_records(losses([0, 1]).mean().expand(2), source)
    with pytest.raises(RuntimeError, match="the loss of one record depends on another record of the batch"):
        dpsgd.train(
            model=small,
            parameters=list(small.parameters()),
            optimizer=torch.optim.SGD(small.parameters(), lr=0.1),
            plan=PLAN,
            population=8,
            losses=lambda indices: losses(indices).mean().expand(len(indices)) if indices else losses(indices),
            gradients="opacus",
            random=seeded(1),
        )


def test_a_layer_without_rows_of_records_is_named(small: Small) -> None:
    ids = torch.randint(0, WORDS, (4, LENGTH))

    def packed(indices: Sequence[int]) -> Tensor:
        rows = small.norm(small.words(ids[list(indices)]).reshape(1, -1, WIDTH))
        return rows.reshape(len(indices), -1).square().sum(dim=1)

    with hooked(small, list(small.parameters())) as source, pytest.raises(NotPerRecord, match="records from Opacus"):
        source.clipped_sum(packed([0, 1]), CLIP, [1, 1])
