"""Every way to a clipped sum agrees with clipping by hand, one record at a time."""

import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fedcollm_privacy import per_record
from fedcollm_privacy.per_record import NotPerRecord, clipped_sum, couples_records, tapped

Subject = Callable[..., object]
BATCH = list(range(12))
CLIP = 0.05  # below the norms of about half of the records


def layers_of(model: nn.Module) -> dict[str, nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(each.requires_grad for each in module.parameters(recurse=False))
    }


def clip_by_hand(gradients: Sequence[Tensor], clip: float) -> Tensor:
    """Return Σ g · min(1, C / ‖g‖) over flat gradients."""
    return sum((g.double() * min(1.0, clip / g.double().norm().item()) for g in gradients), torch.tensor(0.0))


def by_hand(subject, clip: float, batch: Sequence[int] = BATCH) -> Tensor:  # type: ignore[no-untyped-def]  # a fixture's
    parameters = subject.parameters()
    gradients = []
    for index in batch:
        parts = torch.autograd.grad(subject.losses([index]).sum(), parameters)
        gradients.append(torch.cat([part.reshape(-1) for part in parts]))
    return clip_by_hand(gradients, clip)


def by_taps(subject, clip: float, batch: Sequence[int] = BATCH) -> Tensor:  # type: ignore[no-untyped-def]  # a fixture's
    with tapped(layers_of(subject.model)) as taps:
        totals = clipped_sum(subject.losses(batch), taps, clip)
    return torch.cat([totals[parameter].reshape(-1) for parameter in subject.parameters()])


def close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).norm() <= 2e-5 * second.norm())


@pytest.mark.parametrize("only_b", [False, True], ids=["lora", "ffa"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("cost", [0, 10**9], ids=["outer", "ghost"])
def test_clipped_sum_equals_clipping_by_hand(build, monkeypatch, kind, only_b, cost) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(per_record, "_COST_OF_A_COORDINATE", cost)
    subject = build(kind, only_b=only_b)

    assert close(by_taps(subject, CLIP), by_hand(subject, CLIP))
    assert not close(by_taps(subject, CLIP), by_hand(subject, 1e9))


def test_clipped_sum_equals_opacus_hooks(build) -> None:  # type: ignore[no-untyped-def]
    from opacus import GradSampleModule

    subject = build()
    ours = by_taps(subject, CLIP)
    with warnings.catch_warnings():
        # Opacus's hooks see a model whose input (token numbers) needs no gradient.
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        # Opacus keeps activations in train mode only; this model has no dropout.
        wrapped = GradSampleModule(subject.model.train(), loss_reduction="sum", strict=False)
        subject.losses(BATCH).sum().backward()
    rows = [torch.cat([each.grad_sample[b].reshape(-1) for each in subject.parameters()]) for b in BATCH]
    wrapped.to_standard_module()

    assert close(ours, clip_by_hand(rows, CLIP))


def test_clipped_sum_equals_functorch(build) -> None:  # type: ignore[no-untyped-def]
    from torch.func import functional_call, grad, vmap

    subject = build("gpt2")
    trainable = {name: each for name, each in subject.model.named_parameters() if each.requires_grad}

    def loss(values: dict[str, Tensor], tokens: Tensor) -> Tensor:
        logits = functional_call(subject.model, values, kwargs={"input_ids": tokens[None]}).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, tokens[1:])

    with warnings.catch_warnings():
        # Attention has no batching rule on the CPU, so vmap runs it record by record: slow, and exact.
        warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
        gradients = vmap(grad(loss), in_dims=(None, 0))(trainable, subject.records[BATCH])
    rows = [torch.cat([gradients[name][b].reshape(-1) for name in trainable]) for b in BATCH]

    assert close(by_taps(subject, CLIP), clip_by_hand(rows, CLIP))


def test_layer_with_bias_used_twice_and_without_positions_is_exact() -> None:
    torch.manual_seed(1)
    model = nn.Linear(3, 3)
    data = torch.randn(6, 3)

    def losses(rows: Tensor) -> Tensor:
        return model(torch.tanh(model(rows))).square().sum(dim=1)

    gradients = []
    for row in data:
        parts = torch.autograd.grad(losses(row[None]).sum(), [model.weight, model.bias])
        gradients.append(torch.cat([part.reshape(-1) for part in parts]))
    with tapped({"": model}) as taps:
        totals = clipped_sum(losses(data), taps, 1.0)

    flat = torch.cat([totals[model.weight].reshape(-1), totals[model.bias]])
    assert close(flat, clip_by_hand(gradients, 1.0))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("cost", [0, 10**9], ids=["outer", "ghost"])
def test_record_that_is_not_finite_contributes_exactly_nothing(monkeypatch, poison, cost) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(per_record, "_COST_OF_A_COORDINATE", cost)
    torch.manual_seed(1)
    model = nn.Linear(5, 4)
    data = torch.randn(6, 2, 5)
    data[3, 1, 2] = poison

    def total(rows: Tensor) -> Tensor:
        with tapped({"": model}) as taps:
            totals = clipped_sum(torch.tanh(model(rows)).sum(dim=(1, 2)), taps, 1.0)
        return torch.cat([totals[model.weight].reshape(-1), totals[model.bias]])

    assert torch.isfinite(total(data)).all()
    assert close(total(data), total(data[[0, 1, 2, 4, 5]]))


def test_finite_gradient_of_a_loss_that_is_not_finite_contributes_nothing() -> None:
    model = nn.Linear(2, 1)
    data = torch.ones(2, 2)
    offset = torch.tensor([0.0, float("inf")])
    with tapped({"": model}) as taps:
        both = clipped_sum(model(data)[:, 0] + offset, taps, 1.0)
    with tapped({"": model}) as taps:
        first = clipped_sum(model(data[:1])[:, 0], taps, 1.0)

    assert torch.equal(both[model.weight], first[model.weight])


def test_activation_checkpointing_is_exact() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    data = torch.randn(5, 3, 4)

    def total(*, save_memory: bool) -> Tensor:
        with tapped(layers_of(model)) as taps:
            outputs = checkpoint(model, data, use_reentrant=False) if save_memory else model(data)
            totals = clipped_sum(outputs.square().sum(dim=(1, 2)), taps, 1.0)
        return torch.cat([totals[each].reshape(-1) for each in model.parameters()])

    assert close(total(save_memory=True), total(save_memory=False))


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), tapped({"": model}):
        raise ZeroDivisionError

    assert not model._forward_hooks


def test_couples_records_sees_a_batch_mean() -> None:
    model = nn.Linear(2, 1)
    with tapped({"": model}) as taps:
        own = model(torch.randn(3, 2)).square()[:, 0]
        assert couples_records(own.mean().expand(3), taps)
    with tapped({"": model}) as taps:
        assert not couples_records(model(torch.randn(3, 2)).square()[:, 0], taps)


def test_layer_that_took_no_part_is_refused() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    with tapped(layers_of(model)) as taps, pytest.raises(RuntimeError, match="idle took no part"):
        clipped_sum(model["used"](torch.ones(3, 2))[:, 0], taps, 1.0)


def test_layer_that_the_loss_ignores_is_refused() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    with tapped(layers_of(model)) as taps:
        model["idle"](torch.ones(3, 2))
        losses = model["used"](torch.ones(3, 2))[:, 0]
        with pytest.raises(RuntimeError, match="idle: the losses do not depend"):
            clipped_sum(losses, taps, 1.0)


class Flat(nn.Module):
    """Two layers, of which the second gets its rows as the test says: OPT's feed-forward layers get [B·T, in]."""

    def __init__(self, rows_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.rows_of = nn.Linear(3, 4), nn.Linear(4, 2), rows_of

    def losses(self, data: Tensor) -> Tensor:
        """Return float[B] of data [B, T, 3]."""
        outputs = self.second(self.rows_of(torch.tanh(self.first(data))))
        return outputs.square().reshape(len(data), -1).sum(dim=1)


def flat_total(model: Flat, data: Tensor, clip: float) -> Tensor:
    with tapped(layers_of(model)) as taps:
        totals = clipped_sum(model.losses(data), taps, clip)
    return torch.cat([totals[each].reshape(-1) for each in model.parameters()])


def test_rows_that_are_positions_of_records_are_exact() -> None:
    torch.manual_seed(1)
    model, data = Flat(lambda rows: rows.reshape(-1, 4)), torch.randn(5, 3, 3)
    gradients = []
    for record in data:
        parts = torch.autograd.grad(model.losses(record[None]).sum(), list(model.parameters()))
        gradients.append(torch.cat([part.reshape(-1) for part in parts]))

    assert close(flat_total(model, data, 0.5), clip_by_hand(gradients, 0.5))
    assert not close(flat_total(model, data, 0.5), clip_by_hand(gradients, 1e9))


@pytest.mark.parametrize(
    "rows_of",
    [
        lambda rows: rows.reshape(1, -1, 4),  # packed into one sequence
        lambda rows: rows.reshape(-1, 4)[:-1],  # fewer rows than positions: a router's
        lambda rows: rows.repeat(1, 2, 1).reshape(-1, 4),  # as many rows a record, and other ones than positions
    ],
    ids=["packed", "fewer", "more"],
)
def test_rows_that_are_neither_records_nor_their_positions_are_refused(rows_of: Callable[[Tensor], Tensor]) -> None:
    model = Flat(rows_of)
    model.losses = lambda data: model.second(rows_of(model.first(data))).sum() * torch.ones(len(data))  # type: ignore[method-assign]

    with pytest.raises(NotPerRecord, match=r"second: expected one row per record, \[5, …\], or per position"):
        flat_total(model, torch.ones(5, 3, 3), 1.0)


def test_change_in_place_is_refused() -> None:
    model = nn.Linear(2, 1)
    with tapped({"layer": model}) as taps, pytest.raises(RuntimeError, match="in place"):
        clipped_sum(model(torch.ones(3, 2)).relu_()[:, 0], taps, 1.0)
