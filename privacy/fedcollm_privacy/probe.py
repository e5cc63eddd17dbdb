"""Find out on made-up records how per-record gradients of a model can be had, before anything is spent.

Two ways lead to them: many records in one forward pass (`per_record`), and one unit at a time (`one_by_one`), which is
exact for every model. The faster one is right where layers get the records' own rows, and where a record's gradient has
the same bits whatever stands in the other rows. A router that sends rows to experts breaks both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fedcollm_privacy.dpsgd import Gradients, Losses, check_trainable, linear_layers
from fedcollm_privacy.errors import NotPerRecord
from fedcollm_privacy.from_opacus import FromOpacus, hooked
from fedcollm_privacy.one_by_one import gradient
from fedcollm_privacy.per_record import Taps, gradient_of, tapped

_CLOSE = {torch.float32: 1e-3, torch.float64: 1e-9}
_CLOSE_IN_HALF = 0.3  # bfloat16 rounds a tiny model's gradient to about a tenth; wrong rows give about 1
_MOST_NAMES = 4  # of parameters, in a message
RECORDS = 4
"""How many records must be made up."""


def probe(
    *,
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    losses: Losses,
    rows: int,
    dtype: torch.dtype,
    gradients: Gradients = "linear",
) -> str:
    """Return why every unit needs a forward pass of its own; empty where records can share passes of `rows` rows.

    Both ways are compared on records 0 to 3 of `losses`, made up and of one shape.
    `dtype` is what the model computes in. Neither parameters nor modes change. `gradients` names the faster way.

    Raises:
        ValueError: a parameter that has no gradient on any of them, or none that is finite; trainable ones besides.
    """
    check_trainable(model, parameters)
    references = [gradient(losses([record])[0], parameters) for record in range(RECORDS)]
    _check_reached(model, parameters, references)
    if rows == 1:
        return "one record is in memory at a time"
    try:
        if gradients == "opacus":
            with hooked(model, parameters) as source:
                found = _in_company(parameters, losses, rows, source)
        else:
            with tapped(linear_layers(model, parameters)) as taps:
                found = _in_company(parameters, losses, rows, taps)
    except (NotPerRecord, ValueError) as error:
        return str(error)
    return _difference(found, _flat(references[0]), _CLOSE.get(dtype, _CLOSE_IN_HALF))


def _in_company(
    parameters: Sequence[nn.Parameter], losses: Losses, rows: int, source: Taps | FromOpacus
) -> list[Tensor]:
    """Return the gradient of record 0, float64[d], at three places of a pass, each time beside others."""
    found: list[Tensor] = []
    for place, others in ((0, (1, 2, 3)), (rows - 1, (3, 3, 1)), (rows // 2, (2,))):
        records = [others[row % len(others)] for row in range(rows)]
        records[place] = 0
        source.clear()
        parts = gradient_of(losses(records), source, place)
        found.append(_flat([parts[parameter] for parameter in parameters]))
    return found


def _difference(found: Sequence[Tensor], reference: Tensor, close: float) -> str:
    if not (found[0] - reference).norm() <= close * reference.norm():
        return "its layers do not get the records' own rows: gradients of a shared pass are others than of one record"
    if not all(torch.equal(found[0], other) for other in found[1:]):
        return "the gradient of one record depends on the others in the pass, by rounding or by a router"
    return ""


def _check_reached(model: nn.Module, parameters: Sequence[nn.Parameter], found: Sequence[Sequence[Tensor]]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    columns = list(zip(parameters, *found, strict=True))
    _refuse("took no part in the forward pass of made-up records", names, columns, lambda each: not each.any())
    _refuse("has a gradient that is not finite", names, columns, lambda each: not torch.isfinite(each).all())


def _refuse(
    what: str, names: dict[int, str], columns: Sequence[tuple[Tensor, ...]], wrong: Callable[[Tensor], bool]
) -> None:
    bad = [names[id(parameter)] for parameter, *gradients in columns if all(wrong(each) for each in gradients)]
    if bad:
        more = f" and {len(bad) - _MOST_NAMES} more" if len(bad) > _MOST_NAMES else ""
        raise ValueError(f"{', '.join(bad[:_MOST_NAMES])}{more}: {what}, so nothing can train it")


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])
