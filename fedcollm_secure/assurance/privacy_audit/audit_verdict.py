"""What the privacy audit says to a person: what was tested, what could be proved, whether the claim holds."""

from collections.abc import Mapping, Sequence
from typing import cast

Json = Mapping[str, object]
POINT_NAMES = {
    "steps": "every noisy gradient",
    "update": "the silo's update",
    "sum": "the sum of all silos",
    "model": "the final small model",
    "llm": "the LLM",
}
UNSEEN = """  No test can see: a seed that somebody can guess, of the noise or of the sampler (whoever knows who is
  drawn is not held off by sampling); another shape within the tolerances above; a silo that runs another program, or
  whose host lies; records that the data themselves hold twice."""


def audit_words(found: Json) -> str:
    """Say what was tested, what each point gave away, and whether the claim holds."""
    claimed, bound = cast(float, found["claimed"]), cast(float, found["lower_bound"])
    refutable = cast(float, found["largest_refutable"])
    lines = [f"sabotaged on purpose: {found['sabotage']}"] if found["sabotage"] else []
    lines += [f"Mechanism, at {'σ' if found['noise'] == 'own' else 'z'} = {found['noise_multiplier']:g}:"]
    lines += [_check(check) for check in cast(Sequence[Json], found["checks"])]
    rounds = cast(Mapping[str, object], found["rounds"])
    looked_at = ", ".join(str(each) for each in cast(Sequence[int], rounds["looked_at"]))
    lines += [f"  Rounds {looked_at} of {rounds['planned']}; an honest run fails a test above once in {_rarely(found)}"]
    if sight := cast(Mapping[str, float] | None, found["surely_found_below"]):
        lines += [_sight(sight)]
    lines += [UNSEEN]
    lines += [f"{_how(found)}; ε is at least, with 95 % confidence for all of them:"]
    lines += [_observation(observation) for observation in cast(Sequence[Json], found["observations"])]
    unseen = cast(Mapping[str, str], found["not_observed"])
    lines += [f"  {POINT_NAMES[point]:<22} not looked at: {why}" for point, why in unseen.items()]
    if claimed >= refutable:
        lines += [
            f"  An audit of this size can refute no claim from {refutable:.2f} up: there only the tests above count"
        ]
    verdict = "holds as far as this audit can see" if found["holds"] else "DOES NOT HOLD"
    lines += [
        f"The claim ε = {claimed:g} (δ = {found['delta']:g}) for a {found['unit']} {verdict}; proved: ε ≥ {bound:.2f}"
    ]
    return "\n".join(lines)


def _sight(sight: Mapping[str, float]) -> str:
    tensor, step, entry = (f"{sight[each]:.2f}" for each in ("tensor", "step", "entry"))
    return (
        f"  Found 999 times in 1000: noise below {tensor} of what it should be in a tensor of one silo and round, "
        f"{step} in a step, {entry} in one entry throughout"
    )


def _rarely(found: Json) -> str:
    return f"{1 / max(cast(float, found['false_alarm']), 1e-12):,.0f} audits"


def _how(found: Json) -> str:
    if found["honest"] is None:
        return f"One run with {found['canaries']} canaries"
    what = f"One run with {found['canaries']} canaries" if found["canaries"] else "The same sums, drawn many times"
    return f"{what}, all silos but {found['honest']} in league with the server"


def _check(check: Json) -> str:
    low, high = cast(Sequence[float], check["expected"])
    verdict = "holds " if check["holds"] else "BROKEN"
    expected = (
        f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}" if high < float("inf") else f"{low:.4g} or more"
    )
    return f"  {verdict} {check['check']}: {check['told']} (expected {expected})"


def _observation(observation: Json) -> str:
    name = POINT_NAMES[cast(str, observation["point"])]
    bound = cast(float, observation["lower_bound"])
    return f"  {name:<22} ε ≥ {bound:.2f}  ({observation['right']} of {observation['guesses']} guesses right)"
