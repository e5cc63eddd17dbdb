"""Ways to break DP-SGD as a careless change would, for as long as a block runs: the audit must see each of them.

They replace parts of the training path in this process, so that the path itself has no switch for them.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assurance.privacy_audit.noise_sabotages import LATE, NOISE_WAYS
from fedcollm_secure.assurance.privacy_audit.sabotage_scene import Scene, follow
from fedcollm_secure.assurance.privacy_audit.training_sabotages import TRAINING_WAYS
from fedcollm_secure.config import Config
from fedcollm_secure.errors import ConfigError

_WAYS: Mapping[str, Callable[[ExitStack, Scene], None]] = {**TRAINING_WAYS, **NOISE_WAYS}
SABOTAGES = tuple(_WAYS)
OWN_NOISE_ALONE = {
    "noisefirst",
    "lastempty",
    "batchnoise",
    "averagenoise",
    "float16noise",
    "otherrate",
    "samebatches",
    "edge",
    "extrastep",
    "sidestep",
}
SHARES_ALONE = {"smallshare", "redraw"}
OF_RECORDS = {"skipempty", "hfloss", "groupclip", "layerclip", "duplicates"}


def check_sabotages(names: Sequence[str], plan: TrainingPlan, config: Config) -> None:
    """Refuse a name that is unknown, or that breaks nothing under this configuration. Raises: ConfigError."""
    useless = OWN_NOISE_ALONE if isinstance(plan, SharedPlan) else SHARES_ALONE
    useless = useless | (OF_RECORDS if plan.unit == "silo" else set[str]())
    # A person's records count once, however often they are there.
    useless = useless | ({"duplicates"} if plan.unit == "subject" else {"recordunit"})
    useless = useless | ({"laterounds"} if plan.rounds < LATE else set[str]())
    useless = useless | ({"optimizernonoise"} if config.silo.optimizer != "adamw" else set[str]())
    possible = [name for name in SABOTAGES if name not in useless]
    if wrong := [name for name in names if name not in possible]:
        expected = f"expected some of {', '.join(possible)} for this kind of privacy"
        raise ConfigError("--sabotage", f"{expected}, got {', '.join(wrong)}")


@contextmanager
def sabotaged(names: Sequence[str], *, silo: str) -> Generator[None]:
    """Break the training path of this process in these ways, together, until the block ends.

    `silo` is the one in which a sabotage of one silo strikes.
    """
    scene = Scene(silo=silo)
    with ExitStack() as stack:
        if names:
            follow(stack, scene)
        for name, way in _WAYS.items():
            if name in names:
                way(stack, scene)
        yield
