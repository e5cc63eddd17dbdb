"""The training loop: every row of the pitfall table, and the sensitivity that the guarantee rests on."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.dpsgd import train
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.sampling import poisson_sample

CLIP = 0.05
PLAN = RecordPlan(
    epsilon=60.0,
    delta=1e-5,
    clip_norm=CLIP,
    sampling_rate=0.5,
    noise_multiplier=0.5,
    steps_per_round=3,
    rounds=2,
    batch_size=8,
)
# Gaussian noise is a public function of its bytes: equal bytes, equal noise. For tests of what is not the noise.
Losses = Callable[[Sequence[int]], Tensor]


def seeded(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def descend(subject, losses: Losses | None = None, *, plan: RecordPlan = PLAN, **options: object) -> Tensor:  # type: ignore[no-untyped-def]  # a fixture's
    """Train with plain SGD of rate 1 and return the change of the weights: minus the sum of the noisy gradients."""
    before = subject.flat()
    train(
        model=subject.model,
        parameters=subject.parameters(),
        optimizer=torch.optim.SGD(subject.parameters(), lr=1.0),
        plan=plan,
        population=len(subject.records),
        losses=losses or subject.losses,
        **options,  # type: ignore[arg-type]  # checked by train
    )
    return subject.flat() - before


def clipped_total(subject, losses: Losses, batch: Sequence[int], clip: float = CLIP) -> Tensor:  # type: ignore[no-untyped-def]  # a fixture's
    """Return what one step adds up before the noise, through the code that training runs."""
    parameters = subject.parameters()
    with dpsgd.tapped(dpsgd.linear_layers(subject.model, parameters)) as taps:
        parts = dpsgd._batch_sum([(index,) for index in batch], losses, taps, clip, None, parameters)
    return torch.cat([part.reshape(-1) for part in parts])


def labels_of(subject, indices: Sequence[int], answers: Sequence[int]) -> Tensor:  # type: ignore[no-untyped-def]  # same
    """Return int64[B, T]: only the last `answers[i]` tokens of record i count; −100 is ignored by the loss."""
    labels = subject.records[list(indices)].clone()
    for row, index in enumerate(indices):
        labels[row, : labels.shape[1] - answers[index]] = -100
    return labels


def batch_mean(subject, answers: Sequence[int]) -> Losses:  # type: ignore[no-untyped-def]  # a fixture's
    """Return the loss that Hugging Face models compute from `labels`: the mean over all tokens of the batch."""

    def losses(indices: Sequence[int]) -> Tensor:
        tokens = subject.records[list(indices)]
        labels = labels_of(subject, indices, answers)
        return subject.model(input_ids=tokens, labels=labels).loss.expand(len(indices))

    return losses


def own_mean(subject, answers: Sequence[int]) -> Losses:  # type: ignore[no-untyped-def]  # a fixture's
    """Return each record's mean over its own answer."""

    def losses(indices: Sequence[int]) -> Tensor:
        logits = subject.model(input_ids=subject.records[list(indices)]).logits[:, :-1]
        labels = labels_of(subject, indices, answers)[:, 1:]
        each = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # zero where ignored
        return each.sum(dim=1) / torch.tensor([float(answers[index]) for index in indices])

    return losses


@pytest.mark.parametrize("only_b", [False, True], ids=["lora", "ffa"])
def test_dp_sensitivity_of_one_record_is_at_most_the_clip_norm(build, only_b: bool) -> None:  # type: ignore[no-untyped-def]
    subject = build(only_b=only_b, records=64)
    random = np.random.default_rng(3)
    worst = 0.0
    for _ in range(200):
        *others, added = random.permutation(64)[: random.integers(1, 12)].tolist()
        with_record = clipped_total(subject, subject.losses, [*others, added])
        without = clipped_total(subject, subject.losses, others) if others else torch.zeros_like(with_record)
        worst = max(worst, (with_record - without).norm().item())

    assert 0.99 * CLIP < worst <= CLIP * (1 + 1e-5)


def test_dp_sensitivity_is_broken_by_the_built_in_batch_mean_loss(build) -> None:  # type: ignore[no-untyped-def]
    """A record with a long answer changes the number of tokens, hence the gradients of all records beside it."""
    subject = build(records=12)
    subject.records[:11] = subject.records[0].clone()  # alike, so that their gradients add up
    answers = [1] * 11 + [8]
    clip = max(clipped_total(subject, own_mean(subject, answers), [index], 1e9).norm().item() for index in range(12))

    def sensitivity(losses: Losses) -> float:
        with_record = clipped_total(subject, losses, range(12), clip)
        return (with_record - clipped_total(subject, losses, range(11), clip)).norm().item()

    assert sensitivity(batch_mean(subject, answers)) > 1.5 * clip
    assert sensitivity(own_mean(subject, answers)) <= clip * (1 + 1e-5)


def test_batch_mean_loss_is_refused(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    with pytest.raises(RuntimeError, match="depends on another record"):
        descend(subject, batch_mean(subject, [8] * 24))


def test_step_is_the_clipped_sum_plus_noise_over_the_public_constant(build) -> None:  # type: ignore[no-untyped-def]
    subject, twin = build(), build()
    plan = replace(PLAN, steps_per_round=1)
    change = descend(subject, plan=plan, random=seeded(5))

    random = seeded(5)
    batch = poisson_sample(len(twin.records), plan.sampling_rate, random)
    noise = gaussian(twin.flat().shape, plan.noise_multiplier * CLIP, random)
    expected = -(clipped_total(twin, twin.losses, batch) + noise) / plan.batch_size

    assert len(batch) != plan.batch_size  # otherwise a data-dependent normaliser would pass
    assert torch.allclose(change, expected, atol=1e-6)


def test_noise_of_a_round_has_the_planned_variance(build) -> None:  # type: ignore[no-untyped-def]
    subject = build(records=4)
    plan = replace(PLAN, sampling_rate=1e-9, steps_per_round=50, epsilon=60.0)
    change = descend(subject, plan=plan) * plan.batch_size
    expected = plan.noise_multiplier * CLIP * 50**0.5

    assert change.std().item() / expected == pytest.approx(1.0, abs=5 / (2 * len(change)) ** 0.5)


def test_poisson_empty_batch_is_a_step_of_noise(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    asked: list[Sequence[int]] = []
    steps: list[int] = []
    change = descend(
        subject,
        lambda indices: asked.append(indices) or subject.losses(indices),  # type: ignore[func-returns-value]
        plan=replace(PLAN, sampling_rate=1e-12),
        progress=steps.append,
    )

    assert asked == []
    assert steps == [1, 2, 3]
    assert (change != 0).all()


def test_poisson_planned_number_of_steps_is_taken(build) -> None:  # type: ignore[no-untyped-def]
    steps: list[int] = []
    descend(build(), plan=replace(PLAN, steps_per_round=5), progress=steps.append)

    assert steps == [1, 2, 3, 4, 5]


def test_poisson_batches_come_from_the_csprng_that_is_passed(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    seen: list[list[int]] = []

    def losses(indices: Sequence[int]) -> Tensor:
        seen.append(list(indices))
        return subject.losses(indices)

    descend(subject, losses, random=lambda size: b"\0" * size)

    assert seen == [[0, 1], *[list(range(24))] * 3]  # the probe of two, then everybody: zeros are below any rate


def test_csprng_two_runs_with_the_same_seed_share_no_noise(build) -> None:  # type: ignore[no-untyped-def]
    changes = []
    for _ in range(2):
        subject = build()
        torch.manual_seed(0)
        np.random.seed(0)
        changes.append(descend(subject, plan=replace(PLAN, sampling_rate=1e-12)))

    assert (changes[0] != changes[1]).all()


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_dp_noise_and_clipping_do_not_depend_on_micro_batches(build, size: int) -> None:  # type: ignore[no-untyped-def]
    whole = descend(build(), random=seeded(9))
    parts = descend(build(), random=seeded(9), microbatch=size)

    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_record_with_a_loss_that_is_not_finite_counts_as_zero(build, poison: float) -> None:  # type: ignore[no-untyped-def]
    subject, twin = build(), build()

    def poisoned(indices: Sequence[int]) -> Tensor:
        return subject.losses(indices) * torch.tensor([poison if index == 2 else 1.0 for index in indices])

    def without(indices: Sequence[int]) -> Tensor:
        return twin.losses(indices) * torch.tensor([float(index != 2) for index in indices])

    first = descend(subject, poisoned, random=seeded(4))
    second = descend(twin, without, random=seeded(4))

    assert torch.isfinite(first).all()
    assert torch.allclose(first, second, atol=1e-6)


def test_model_is_left_clean(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    evaluated = subject.losses([0, 1]).detach()
    frozen = copy.deepcopy({name: each for name, each in subject.model.named_parameters() if not each.requires_grad})
    descend(subject)

    assert not any(module._forward_hooks or module._backward_hooks for module in subject.model.modules())
    assert all(each.grad is None and not hasattr(each, "grad_sample") for each in subject.model.parameters())
    assert all(torch.equal(dict(subject.model.named_parameters())[name], each) for name, each in frozen.items())
    assert not subject.model.training
    assert not torch.equal(subject.losses([0, 1]), evaluated)
    descend(subject)  # the next round


def test_model_is_left_clean_after_an_error(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    with pytest.raises(RuntimeError, match="one float per record"):
        descend(subject, lambda indices: subject.losses(indices).mean())

    assert not any(module._forward_hooks for module in subject.model.modules())
    assert all(each.grad is None for each in subject.model.parameters())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_training_learns_when_privacy_is_weak(build, kind: str) -> None:  # type: ignore[no-untyped-def]
    subject = build(kind)
    subject.records[:] = torch.arange(subject.records.shape[1]) % 3  # something to learn
    everyone = range(len(subject.records))
    before = subject.losses(everyone).mean().item()
    plan = replace(PLAN, steps_per_round=30, clip_norm=1.0, sampling_rate=0.5, epsilon=2000.0, noise_multiplier=0.2)
    train(
        model=subject.model,
        parameters=subject.parameters(),
        optimizer=torch.optim.Adam(subject.parameters(), lr=0.02),
        plan=plan,
        population=len(subject.records),
        losses=subject.losses,
        random=seeded(1),
    )

    assert subject.losses(everyone).mean().item() < before - 0.1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.mean(),
        lambda values: values[:-1],
        lambda values: values[:, None],
        lambda values: values.round().long(),
    ],
    ids=["mean", "short", "column", "integers"],
)
def test_losses_of_a_wrong_shape_are_refused(build, spoil: Callable[[Tensor], Tensor]) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    with pytest.raises(RuntimeError, match="one float per record"):
        descend(subject, lambda indices: spoil(subject.losses(indices)))


def test_losses_without_a_gradient_are_refused(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    with pytest.raises(RuntimeError, match="constant"):
        descend(subject, lambda indices: subject.losses(indices).detach())


def test_adapter_that_took_no_part_is_refused(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    def bypassed(indices: Sequence[int]) -> Tensor:
        with subject.model.disable_adapter():
            values = subject.losses(indices)
        return values + sum(each.sum() for each in subject.parameters())

    with pytest.raises(RuntimeError, match="took no part"):
        descend(subject, bypassed)


def test_weights_that_did_not_move_are_refused(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    with pytest.raises(RuntimeError, match="no weight moved"):
        train(
            model=subject.model,
            parameters=subject.parameters(),
            optimizer=torch.optim.SGD(subject.parameters(), lr=0.0),
            plan=PLAN,
            population=len(subject.records),
            losses=subject.losses,
        )


class Rows(nn.Module):
    """A model of plain layers, to spoil."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.middle = middle
        self.last = nn.Linear(4, 1)

    def forward(self, rows: Tensor) -> Tensor:
        return self.last(self.middle(self.first(rows)))[:, 0]


def attempt(
    model: Rows, parameters: Sequence[nn.Parameter] | None = None, held: Sequence[nn.Parameter] | None = None
) -> None:
    data = torch.randn(10, 3)
    parameters = list(model.parameters()) if parameters is None else parameters
    train(
        model=model,
        parameters=parameters,
        optimizer=torch.optim.SGD(held or list(model.parameters()), lr=0.1),
        plan=PLAN,
        population=10,
        losses=lambda indices: F.softplus(model(data[list(indices)])),
    )


def test_plain_model_trains() -> None:
    attempt(Rows(nn.Tanh()))


def test_batch_normalisation_is_refused() -> None:
    model = Rows(nn.BatchNorm1d(4, affine=False))

    with pytest.raises(ValueError, match="middle is a BatchNorm1d, which mixes"):
        attempt(model)


def test_trainable_layer_that_is_not_linear_is_refused() -> None:
    with pytest.raises(ValueError, match=r"middle is a LayerNorm: only nn\.Linear"):
        attempt(Rows(nn.LayerNorm(4)))


def test_trainable_parameter_that_is_not_given_is_refused() -> None:
    model = Rows(nn.Tanh())

    with pytest.raises(ValueError, match=r"last\.weight: requires_grad is True"):
        attempt(model, list(model.first.parameters()))


def test_frozen_parameter_that_is_given_is_refused() -> None:
    model = Rows(nn.Tanh())
    model.first.weight.requires_grad_(False)

    with pytest.raises(ValueError, match=r"first\.weight: requires_grad is False"):
        attempt(model)


def test_optimiser_that_holds_something_else_is_refused() -> None:
    model = Rows(nn.Tanh())

    with pytest.raises(ValueError, match="optimiser holds 2 trainable tensors, expected exactly the 4"):
        attempt(model, held=list(model.first.parameters()))


@pytest.mark.parametrize(
    "choose", [lambda each: [], lambda each: [*each, each[0]], lambda each: [nn.Parameter(each[0])]]
)
def test_parameters_that_are_none_twice_or_foreign_are_refused(choose) -> None:  # type: ignore[no-untyped-def]
    model = Rows(nn.Tanh())

    with pytest.raises(ValueError, match="distinct, non-empty"):
        attempt(model, choose(list(model.parameters())))


def test_micro_batch_below_one_is_refused(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="microbatch"):
        descend(build(), microbatch=0)


def test_a_gradient_sum_is_what_a_step_would_have_noised(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    everybody = list(range(len(subject.records)))
    with dpsgd.tapped(dpsgd.linear_layers(subject.model, subject.parameters())) as taps:
        parts = dpsgd._batch_sum(
            [(record,) for record in everybody], subject.losses, taps, 0.05, None, subject.parameters()
        )
    summed = dpsgd.gradient_sum(
        model=subject.model,
        parameters=subject.parameters(),
        clip_norm=0.05,
        sampling_rate=1.0,
        population=len(everybody),
        losses=subject.losses,
        microbatch=5,
    )

    assert summed.numpy() == pytest.approx(torch.cat([part.reshape(-1) for part in parts]).numpy(), rel=1e-5, abs=1e-9)
    assert summed.dtype == torch.float64


def test_a_gradient_sum_of_nobody_is_zero(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    summed = dpsgd.gradient_sum(
        model=subject.model,
        parameters=subject.parameters(),
        clip_norm=1.0,
        sampling_rate=0.5,
        population=24,
        losses=subject.losses,
        random=lambda size: b"\xff" * size,
    )

    assert not summed.any()


def test_a_gradient_sum_refuses_losses_that_couple_records(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()

    with pytest.raises(RuntimeError, match="depends on another record"):
        dpsgd.gradient_sum(
            model=subject.model,
            parameters=subject.parameters(),
            clip_norm=1.0,
            sampling_rate=1.0,
            population=24,
            losses=lambda indices: subject.losses(indices).mean().expand(len(indices)),
        )
