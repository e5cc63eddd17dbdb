"""Per-record gradients as Opacus' GradSampleModule takes them, for layers that `per_record` does not know.

Embeddings, normalisations and whatever else Opacus has a rule for, or functorch can map over records. What is done with
the gradients is this room's: they are clipped in float64, all parameters together, and summed; Opacus adds no noise,
draws no batch and counts no budget here.

A record's gradient is held for each parameter at once, float[B, …]: rows × the size of what trains.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcollm_privacy.clipping import clip_factors
from fedcollm_privacy.errors import NotPerRecord

_RAISED = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What Opacus and functorch raise over a layer that they cannot take apart."""
_LEFT_ON_PARAMETERS = ("grad_sample", "_current_grad_sample", "_forward_counter")
_LEFT_ON_MODULES = ("activations", "max_batch_len")


@dataclass(frozen=True, kw_only=True)
class FromOpacus:
    """A model under Opacus' hooks. `names` and `padding` are of its trained parameters: the row that never trains."""

    model: nn.Module
    parameters: Sequence[nn.Parameter]
    names: Mapping[nn.Parameter, str]
    padding: Mapping[nn.Parameter, int]

    def clear(self) -> None:
        """Forget all activations and gradients, also those of a pass that nobody went back through."""
        for parameter in self.parameters:
            parameter.grad = None
            parameter.grad_sample = None  # type: ignore[attr-defined]  # Opacus'
            parameter._forward_counter = 0  # type: ignore[attr-defined]  # Opacus'
            _delete(parameter, "_current_grad_sample")
        for module in self.model.modules():
            _delete(module, *_LEFT_ON_MODULES)

    def clipped_sum(self, losses: Tensor, clip_norm: float, unit_sizes: Sequence[int]) -> dict[Tensor, Tensor]:
        """Return float64 Σ_u clip(mean of ∇ losses[b] over b in u) for each parameter; see `per_record.clipped_sum`.

        Raises:
            NotPerRecord: Opacus has no gradient of each record for a parameter.
        """
        rows = self.gradients(losses)
        with torch.no_grad():
            usable = torch.isfinite(losses)
            if max(unit_sizes) > 1:
                usable = torch.stack([each.all() for each in torch.split(usable, list(unit_sizes))])
                rows = {parameter: _means(each, unit_sizes) for parameter, each in rows.items()}
            squared = [each.double().flatten(1).square().sum(dim=1) for each in rows.values()]  # float64[U] each
            factors = clip_factors(torch.stack(squared).sum(dim=0), clip_norm, usable=usable)
            kept = torch.nonzero(factors)[:, 0]  # 0 · NaN would be NaN
            return {
                parameter: torch.tensordot(factors[kept], each[kept].double(), dims=1)
                for parameter, each in rows.items()
            }

    def couples_records(self, losses: Tensor) -> bool:
        """Tell whether losses[0] depends on another record: whether its own gradient has entries in their rows."""
        others = [each[1:] for each in self.gradients(losses[:1], records=len(losses)).values()]
        return any(bool((torch.isfinite(other) & (other != 0)).any()) for other in others)

    def gradients(self, losses: Tensor, records: int | None = None) -> dict[nn.Parameter, Tensor]:
        """Return float[B, …] for each parameter, B being `records` or the number of `losses`; go back once.

        Raises:
            NotPerRecord: Opacus has none for a parameter, or of another number of rows.
        """
        with warnings.catch_warnings():
            # Hooks of layers whose input needs no gradient, such as the first ones.
            warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
            warnings.filterwarnings("ignore", message="There is a performance drop", category=UserWarning)
            try:
                losses.sum().backward()  # type: ignore[no-untyped-call]  # torch's own annotation
            except _RAISED as error:
                raise NotPerRecord(f"Opacus has no gradient of each record: {_first_line(error)}") from error
        found = {parameter: self._of(parameter, records or len(losses)) for parameter in self.parameters}
        self.clear()
        return found

    def _of(self, parameter: nn.Parameter, records: int) -> Tensor:
        rows: object = vars(parameter).get("grad_sample")
        if not isinstance(rows, Tensor) or rows.shape != (records, *parameter.shape):
            got = list(rows.shape) if isinstance(rows, Tensor) else "none, or several"
            raise NotPerRecord(
                f"{self.names[parameter]}: expected a gradient of each of {records} records from Opacus, got {got}"
            )
        if parameter in self.padding:  # autograd leaves this row alone; Opacus does not know of it
            rows[:, self.padding[parameter]] = 0.0
        return rows


@contextmanager
def hooked(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Generator[FromOpacus]:
    """Put Opacus' hooks on `model` while the context is open; no hook, gradient or mode stays behind.

    Opacus looks at layers in training mode alone, so those that own a trained parameter are; no other is, and no
    dropout draws.

    Raises:
        NotPerRecord: a layer that Opacus refuses.
    """
    from opacus import GradSampleModule  # 2.5 s, for whoever asks for it

    owners = [each for each in model.modules() if any(p.requires_grad for p in each.parameters(recurse=False))]
    modes = [each.training for each in owners]
    try:
        wrapped = GradSampleModule(model, loss_reduction="sum", strict=False)
    except NotImplementedError as error:
        raise NotPerRecord(f"Opacus refuses the model: {_first_line(error)}") from error
    found = FromOpacus(model=model, parameters=parameters, names=_names(model), padding=_padding(owners))
    try:
        for each in owners:
            each.training = True
        found.clear()
        yield found
    finally:
        wrapped.remove_hooks()
        found.clear()
        for each, mode in zip(owners, modes, strict=True):
            each.training = mode
        for parameter in model.parameters():
            _delete(parameter, *_LEFT_ON_PARAMETERS)


def _means(rows: Tensor, unit_sizes: Sequence[int]) -> Tensor:
    """Return float64[U, …]: the mean of each unit's records."""
    return torch.stack([each.double().mean(dim=0) for each in torch.split(rows, list(unit_sizes))])


def _names(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def _padding(owners: Sequence[nn.Module]) -> dict[nn.Parameter, int]:
    embeddings = [each for each in owners if isinstance(each, nn.Embedding)]
    found = [(each.weight, each.padding_idx) for each in embeddings]
    return {weight: row for weight, row in found if row is not None and isinstance(weight, nn.Parameter)}


def _delete(holder: object, *names: str) -> None:
    for name in names:
        vars(holder).pop(name, None)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
