"""Write `synthetic/`: small data sets in which nothing is real, put together from lists of words.

    python examples/make_synthetic.py

They show the form of a bank's and a hospital's data and let the two configurations run at once. No figure on them means
anything.
"""

import csv
import random
from pathlib import Path

FOLDER = Path(__file__).parent / "synthetic"
THINGS = ("card", "account", "transfer", "loan", "mortgage", "direct debit", "standing order", "cash withdrawal")
THINGS += ("top-up", "currency exchange", "statement")
ASKED = {
    "fee": ("why was I charged for my {}", "what does a {} cost"),
    "delay": ("my {} is taking too long", "when will my {} come through"),
    "limit": ("how much can I put on a {}", "raise the limit of my {}"),
    "cancel": ("please stop my {}", "I no longer want the {}"),
    "error": ("my {} shows a wrong amount", "something failed with the {}"),
    "request": ("I would like a new {}", "how do I get a {}"),
    "security": ("I do not recognise this {}", "is my {} safe"),
}
BANKS = ("north", "south", "east", "west")
HOSPITALS = ("lakeside", "hillcrest", "riverside", "harbour")
FINDINGS = {
    "chest pain": ("ECG without changes", "troponin raised"),
    "cough": ("clear chest film", "shadow on the chest film"),
    "knee pain": ("small effusion", "no effusion"),
    "headache": ("normal neurology", "stiff neck"),
    "fever": ("throat red", "no source found"),
}
PLANS = ("discharged with advice", "admitted for observation", "referred to a specialist")


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    generator = random.Random(1)  # noqa: S311  # the same files each time
    asked = _intents(generator)
    for bank in ("public", *BANKS):
        _write(f"bank_{bank}.csv", ("text", "intent"), [row[:2] for row in asked if row[2] == bank])
    _write("hospital_notes.csv", ("note", "summary", "patient", "hospital"), _notes(generator))


def _intents(generator: random.Random) -> list[tuple[str, ...]]:
    """Return two questions for each of 77 intents, each of a bank drawn at random, and three more that are public."""
    found: list[tuple[str, ...]] = []
    for thing in THINGS:
        for what, questions in ASKED.items():
            for question in questions:
                found.append((question.format(thing), f"{thing} {what}", generator.choice(BANKS)))
            for public in ("question about {}: {}", "{} {} please", "help with my {}, {}"):
                found.append((public.format(thing, what), f"{thing} {what}", "public"))
    return found


def _notes(generator: random.Random) -> list[tuple[str, ...]]:
    """Return notes of 30 patients, two each."""
    found: list[tuple[str, ...]] = []
    for number in range(30):
        age, hospital = generator.randint(20, 90), HOSPITALS[number % len(HOSPITALS)]
        for days in generator.sample(range(1, 15), 2):
            complaint = generator.choice(sorted(FINDINGS))
            finding, plan = generator.choice(FINDINGS[complaint]), generator.choice(PLANS)
            note = f"{age} years, {complaint} for {days} days. On examination {finding}. {plan.capitalize()}."
            found.append((note, f"{complaint}, {finding}; {plan}", f"{hospital}-{number}", hospital))
    return found


def _write(name: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with (FOLDER / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
