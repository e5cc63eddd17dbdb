"""How far training and scoring have come, seen from outside: torch tells whoever asks of each step and of each pass.

Counts alone: neither hook looks at a value.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def observed(
    models: Sequence[nn.Module], stepped: Callable[[], None], passed: Callable[[int], None]
) -> Generator[None]:
    """Call `stepped` after each step of any optimiser, and `passed` with the rows of each pass of `models`."""

    def after_step(_optimizer: Optimizer, _positional: tuple[object, ...], _named: dict[str, object]) -> None:
        stepped()

    def before_pass(_model: nn.Module, _positional: tuple[object, ...], named: Mapping[str, object]) -> None:
        if isinstance(ids := named.get("input_ids"), Tensor):
            passed(len(ids))

    with ExitStack() as hooks:
        hooks.callback(register_optimizer_step_post_hook(after_step).remove)
        for model in models:
            hooks.callback(model.register_forward_pre_hook(before_pass, with_kwargs=True).remove)
        yield
