"""Hold what the log says of a round's gates against what came out, and against what the run's config.yaml asks for.

summed    `range` and each gate on the sum that the configuration asks for passed, or one of those rejected it
no sum    `sum` or `range` rejected it, and nothing passed but the trust region
either    the trust region spoke where it is asked for; no gate spoke that is not

A gate's last word counts, since the round's last attempt began: a crash may have had it said twice.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from fedcollm_secure.audit_log.events import GatePassed, GateRejected, RoundClosed, RoundStarted, RoundSummed
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

ALWAYS, LOST, TRUST_REGION = "range", "sum", "trust_region"
KEEPS_THE_AVERAGE = {TRUST_REGION}  # a gate on what was made of the average afterwards
WITHOUT_A_SUM = {ALWAYS, LOST}
SETTINGS = {"max_norm": "norm", "max_loss_increase": "auxiliary_loss", "trust_region": TRUST_REGION}

_KEY = re.compile(r"[a-z0-9_]+:( .*)?")
_BELOW = re.compile(r"(?:[ ]|- ).*|")
_SETTING = re.compile(r"  ([a-z_]+): ([0-9.eE+-]+|null)")
_OTHER_LINE_BREAKS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")


def speaks_of_a_sum(said: GatePassed | GateRejected) -> bool:
    """Say whether a gate's word needs a sum that is open: it can deny one, or judge what came after, without."""
    return said.gate not in KEEPS_THE_AVERAGE and (isinstance(said, GatePassed) or said.gate not in WITHOUT_A_SUM)


class Gates:
    """What the gates said of the round that is open."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._passed: dict[str, bool] = {}

    @property
    def rejected(self) -> set[str]:
        """Return which gates threw the sum away, or said that there is none."""
        return {gate for gate, passed in self._passed.items() if not passed} - KEEPS_THE_AVERAGE

    def take(self, said: GatePassed | GateRejected) -> None:
        """Take in a gate's word."""
        self._passed[said.gate] = isinstance(said, GatePassed)

    def begin_again(self) -> None:
        """Forget what was said: another attempt begins, or another round."""
        self._passed = {}

    def check(self, number: int, index: int, *, summed: bool, asked: Collection[str] | None = None) -> None:
        """Hold it against whether the round was summed, and against the gates `asked` for. Raises: LogError."""
        passed = {gate for gate, holds in self._passed.items() if holds}
        told = f"round {number} is closed"
        if not summed and (not self.rejected & WITHOUT_A_SUM or passed - KEEPS_THE_AVERAGE):
            raise LogError(f"{told} without a sum, and no gate says why", index)
        if summed and self.rejected & WITHOUT_A_SUM:
            raise LogError(f"{told} with a sum, and a gate says that there is none", index)
        wanted = {ALWAYS, *(asked or ())} - KEEPS_THE_AVERAGE
        if summed and not self.rejected and not wanted <= passed:
            raise LogError(f"{told}, and the gate {min(wanted - passed)} says nothing of its sum", index)
        if asked is None:
            return
        if TRUST_REGION in asked and TRUST_REGION not in self._passed:
            raise LogError(f"{told}, and the gate {TRUST_REGION} says nothing of its adapter", index)
        if strange := self._passed.keys() - {*asked, *WITHOUT_A_SUM}:
            raise LogError(f"{told}, and {min(strange)} is no gate that config.yaml asks for", index)


def check_gates(entries: Sequence[Entry], asked: Collection[str]) -> None:
    """Hold each closed round against the gates that the configuration asks for. Raises: LogError."""
    gates, summed = Gates(), False
    for entry in entries:
        match entry.event:
            case RoundStarted():
                gates.begin_again()
            case GatePassed() | GateRejected() as said:
                gates.take(said)
            case RoundSummed():
                summed = True
            case RoundClosed() as closed:
                gates.check(closed.round, entry.index, summed=summed, asked=asked)
                gates.begin_again()
                summed = False
            case _:
                pass


def asked_gates(config: str) -> frozenset[str]:
    """Return which gates a config.yaml asks for, as a run writes it: block style, keys unquoted, no comments.

    Raises: LogError for other YAML: in it, a gate could be asked for where no reader looks.
    """
    lines = config.split("\n")
    plain = not _OTHER_LINE_BREAKS.search(config) and _KEY.fullmatch(lines[0])
    if not plain or not all(_KEY.fullmatch(line) or _BELOW.fullmatch(line) for line in lines):
        raise LogError("config.yaml is not as a run writes it: each line is a plain key, or stands below one", 0)
    begin = [place for place, line in enumerate(lines) if line.split(":")[0] == "gates"]
    if not begin:
        return frozenset()
    end = next((place for place in range(begin[0] + 1, len(lines)) if lines[place][:1] != " "), len(lines))
    settings = _settings(lines[begin[0] + 1 : end])
    if len(begin) > 1 or lines[begin[0]] != "gates:" or not settings:
        raise LogError("config.yaml: gates stands there twice, or otherwise than a run writes it", 0)
    return frozenset(gate for name, gate in SETTINGS.items() if settings.get(name, "null") != "null")


def _settings(lines: Sequence[str]) -> Mapping[str, str]:
    """Return the gates' settings by name, nothing where a line is none of them."""
    found = [_SETTING.fullmatch(line) for line in lines]
    settings = {one[1]: one[2] for one in found if one}
    return settings if len(settings) == len(lines) and settings.keys() <= SETTINGS.keys() else {}
