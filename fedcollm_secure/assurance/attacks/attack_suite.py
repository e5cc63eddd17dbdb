"""The attack suite: which attacks there are, running some, and saying what came of it."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Finding, Outcome
from fedcollm_secure.errors import ConfigError

Json = Mapping[str, object]
MODULES: Mapping[str, str] = {
    "A1": "token_recovery",
    "A2": "inconsistent_models",
    "A3": "both_shares",
    "A4": "swapped_keys",
    "A5": "replayed_messages",
    "A6": "mask_search",
    "A7": "misused_decryptor",
    "A8": "key_recovery",
    "A9": "budget_rollback",
    "A10": "forked_log",
    "A11": "differencing",
    "A12": "poisoning",
    "A13": "membership_inference",
    "A14": "two_cohorts",
    "A15": "too_little_noise",
    "A16": "two_manifests",
    "A17": "chosen_reference",
    "A18": "bad_dealing",
    "A19": "cohort_pairs",
    "A20": "hostile_bytes",
    "A23": "second_session",
}
"""Where each attack is. Each is imported when it is wanted: some need torch, most do not."""


def choose(ids: Sequence[str]) -> list[Attack]:
    """Return the attacks of these ids, each once, in the order of the suite; all without ids. Raises: ConfigError."""
    wanted = {name.upper() for name in ids} or set(MODULES)
    if unknown := sorted(wanted - MODULES.keys()):
        raise ConfigError("attack", f"no attack {', '.join(unknown)}; expected some of {', '.join(MODULES)}")
    return [_load(module) for name, module in MODULES.items() if name in wanted]


def _load(module: str) -> Attack:
    attack: object = import_module(f"{__package__}.{module}").ATTACK
    if not isinstance(attack, Attack):
        raise TypeError(f"{module}.ATTACK must be an Attack")
    return attack


def run(attacks: Sequence[Attack], say: Callable[[str], None]) -> list[Finding]:
    """Run each attack against its twin and against us; `say` hears what is under way."""
    findings: list[Finding] = []
    for attack in attacks:
        say(f"{attack.id} {attack.title} …")
        findings.append(Finding(attack=attack, unprotected=attack.unprotected(), protected=attack.protected()))
    return findings


def document(findings: Sequence[Finding]) -> Json:
    """Return the JSON document of `attack --json`."""
    return {"attacks": [finding.as_json() for finding in findings]}


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 when an attack got through, or when it failed even against its twin and so shows nothing."""
    return 0 if all(finding.as_expected for finding in findings) else 1


def words(findings: Sequence[Finding]) -> str:
    """Say it to a person, a few lines an attack."""
    lines: list[str] = []
    for finding in findings:
        lines += [f"{finding.attack.id}  {finding.attack.title}", f"    {finding.attack.does}."]
        lines += [f"    unprotected: {_verdict(finding.unprotected)}", *_table(finding.unprotected)]
        lines += [f"    protected:   {_verdict(finding.protected)}", *_table(finding.protected)]
    through = [finding.attack.id for finding in findings if finding.protected.succeeded]
    void = [finding.attack.id for finding in findings if not finding.unprotected.succeeded]
    lines += [f"{len(findings) - len(through)} of {len(findings)} attacks fail here: refused, bounded or found out"]
    lines += [f"GOT THROUGH: {', '.join(through)}"] if through else []
    lines += [f"SHOW NOTHING, since they fail without protection too: {', '.join(void)}"] if void else []
    return "\n".join(lines)


def _verdict(outcome: Outcome) -> str:
    reason = f" ({outcome.reason})" if outcome.reason else ""
    return f"{'SUCCEEDS' if outcome.succeeded else 'fails'}{reason}. {outcome.told}."


def _table(outcome: Outcome) -> list[str]:
    """Return the table's lines, the first column to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*outcome.table, strict=True)]
    padded = [
        [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in outcome.table
    ]
    return [f"      {'  '.join(row)}" for row in padded]
