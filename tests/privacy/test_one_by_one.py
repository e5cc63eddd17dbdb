"""One unit at a time: autograd's own gradient, for layers that no hook understands."""

import pytest
import torch
from torch import Tensor, nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.one_by_one import OneByOne
from fedcollm_privacy.per_record import clipped_sum
from fedcollm_privacy.probe import probe
from tests.privacy.test_dpsgd import CLIP, PLAN, descend, seeded


class Routed(nn.Module):
    """Two experts, each called with the rows that a router sends it, as mixtures of experts do."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(3, 2)
        self.router.requires_grad_(False)
        self.experts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

    def losses(self, data: Tensor) -> Tensor:
        """Return float[B] of data [B, T, 3]."""
        rows = data.reshape(-1, 3)
        chosen, out = self.router(rows).argmax(dim=1), torch.zeros_like(rows)
        for number, expert in enumerate(self.experts):
            places = torch.nonzero(chosen == number)[:, 0]
            if len(places):
                out = out.index_copy(0, places, expert(rows[places]))
        return out.reshape(data.shape).square().sum(dim=(1, 2))


@pytest.fixture
def routed() -> Routed:
    torch.manual_seed(3)
    return Routed()


def trained(model: Routed) -> list[nn.Parameter]:
    return [each for each in model.parameters() if each.requires_grad]


def test_experts_are_clipped_exactly_though_some_get_no_row(routed: Routed) -> None:
    data, parameters = torch.randn(6, 2, 3), trained(routed)
    expected = torch.zeros(sum(each.numel() for each in parameters), dtype=torch.float64)
    for record in data:
        parts = torch.autograd.grad(routed.losses(record[None]).sum(), parameters, allow_unused=True)
        flat = torch.cat(
            [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(parameters, parts, strict=True)]
        )
        expected += flat.double() * min(1.0, 0.5 / float(flat.double().norm()))
    found = [
        clipped_sum(routed.losses(record[None]), OneByOne(parameters=parameters), 0.5, unit_sizes=[1])
        for record in data
    ]

    total = torch.cat([sum(each[parameter] for each in found).reshape(-1) for parameter in parameters])  # type: ignore[union-attr]
    assert torch.allclose(total, expected, rtol=1e-5, atol=1e-7)


def test_both_ways_take_the_same_step(build) -> None:  # type: ignore[no-untyped-def]
    shared = descend(build(), random=seeded(5), microbatch=4)
    apart = descend(build(), random=seeded(5), microbatch=4, gradients="one_by_one")

    assert torch.allclose(shared, apart, atol=1e-6)


def test_persons_are_one_unit_here_too(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    parameters, records = subject.parameters(), [0, 1, 2]
    mean = torch.autograd.grad(subject.losses(records).mean(), parameters)
    flat = torch.cat([each.reshape(-1).double() for each in mean])
    parts = dpsgd._batch_sum([records], subject.losses, OneByOne(parameters=parameters), CLIP, None, parameters)

    assert torch.allclose(
        torch.cat([p.reshape(-1) for p in parts]), flat * min(1.0, CLIP / float(flat.norm())), atol=1e-7
    )


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_unit_that_is_not_finite_counts_as_zero(routed: Routed, poison: float) -> None:
    data = torch.randn(2, 2, 3)
    data[1, 0, 0] = poison
    both = dpsgd._batch_sum(
        [(0,), (1,)],
        lambda i: routed.losses(data[list(i)]),
        OneByOne(parameters=trained(routed)),
        1.0,
        None,
        trained(routed),
    )
    first = dpsgd._batch_sum(
        [(0,)], lambda i: routed.losses(data[list(i)]), OneByOne(parameters=trained(routed)), 1.0, None, trained(routed)
    )

    assert all(torch.equal(one, other) for one, other in zip(both, first, strict=True))


def ask(model: nn.Module, losses, parameters: list[nn.Parameter], rows: int = 4) -> str:  # type: ignore[no-untyped-def]
    return probe(model=model, parameters=parameters, losses=losses, rows=rows, dtype=torch.float32)


def test_a_probe_lets_records_share_a_pass_where_their_rows_are_theirs(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    assert ask(subject.model, subject.losses, subject.parameters()) == ""
    assert ask(subject.model, subject.losses, subject.parameters(), rows=1) == "one record is in memory at a time"


def test_a_probe_sees_a_router(routed: Routed) -> None:
    data = torch.randn(4, 3, 3)

    assert "expected one row per record" in ask(
        routed, lambda indices: routed.losses(data[list(indices)]), trained(routed)
    )


def test_a_probe_sees_rows_in_another_order(routed: Routed) -> None:
    """As many rows as positions, position by position instead of record by record: nothing but numbers can tell."""
    data, model = torch.randn(4, 3, 3), nn.Sequential(nn.Linear(3, 2))

    def losses(indices: list[int]) -> Tensor:
        rows = data[list(indices)].transpose(0, 1).reshape(-1, 3)
        return model(rows).reshape(3, len(indices), 2).square().sum(dim=(0, 2))

    assert "do not get the records' own rows" in ask(model, losses, list(model.parameters()))


def test_a_probe_sees_one_record_in_anothers_gradient() -> None:
    data, model = torch.randn(4, 3), nn.Sequential(nn.Linear(3, 2))

    def losses(indices: list[int]) -> Tensor:
        rows = data[list(indices)]
        return (model(rows) * (1 + 1e-5 * rows.sum())).square().sum(dim=1)

    assert "depends on the others in the pass" in ask(model, losses, list(model.parameters()))


def test_a_probe_refuses_what_no_record_reaches(build) -> None:  # type: ignore[no-untyped-def]
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})

    with pytest.raises(
        ValueError, match=r"idle\.weight, idle\.bias: took no part in the forward pass of made-up records"
    ):
        ask(model, lambda indices: model["used"](torch.ones(len(indices), 2))[:, 0], list(model.parameters()))


def test_a_probe_refuses_gradients_that_are_not_finite() -> None:
    model = nn.Linear(2, 1, bias=False)

    with pytest.raises(ValueError, match=r"weight: has a gradient that is not finite"):
        ask(model, lambda indices: model(torch.ones(len(indices), 2))[:, 0] * float("inf"), list(model.parameters()))


def test_training_goes_on_one_by_one_where_layers_have_no_rows_of_records(routed: Routed) -> None:
    data, before = torch.randn(8, 2, 3), [each.detach().clone() for each in trained(routed)]
    dpsgd.train(
        model=routed,
        parameters=trained(routed),
        optimizer=torch.optim.SGD(trained(routed), lr=0.1),
        plan=PLAN,
        population=8,
        losses=lambda indices: routed.losses(data[list(indices)]),
        gradients="one_by_one",
    )

    assert all(not torch.equal(old, new) for old, new in zip(before, trained(routed), strict=True))
