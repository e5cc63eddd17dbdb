"""Persons instead of records: grouping, and what it means when a person is in several silos.

A subject is sampled as one Poisson unit; its gradient is the mean over its records, clipped once. So all records of a
person together weigh no more than C, however many there are (user-level sampling of arXiv 2407.07737).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from fedcollm_privacy import validate


def group_by_subject(subject_of_record: Sequence[Hashable], *, most_records: int) -> tuple[tuple[int, ...], ...]:
    """Return the records of each subject, in order of first appearance, at most the first `most_records` of each.

    The bound keeps a step's work in hand; privacy does not need it. `subject_of_record[i]` names record i's person.
    """
    validate.integer(most_records=most_records, at_least=1)
    records: dict[Hashable, list[int]] = {}
    for record, subject in enumerate(subject_of_record):
        records.setdefault(subject, []).append(record)
    return tuple(tuple(each[:most_records]) for each in records.values())


def check_subjects(subjects: Sequence[Sequence[int]]) -> None:
    """Refuse subjects without records, and records of two subjects: removing one person would change two units."""
    everything = [record for records in subjects for record in records]
    if not all(subjects) or len(set(everything)) != len(everything):
        raise ValueError("each subject needs a record, and each record exactly one subject")


def across_silos(guarantees: Sequence[tuple[float, float]], *, silos_per_subject: int) -> tuple[float, float]:
    """Return (ε, δ) for a person whose data may be in up to `silos_per_subject` of the silos.

    `guarantees` holds each silo's own (ε, δ). With 1 this is parallel composition: the largest of each.

    Guarantee: basic composition over every choice of that many silos; (ε, δ) bounds them all.
    """
    validate.integer(silos_per_subject=silos_per_subject, at_least=1)
    largest = [sorted(values, reverse=True)[:silos_per_subject] for values in zip(*guarantees, strict=True)]
    epsilon, delta = (math.fsum(values) for values in largest or ([], []))
    return epsilon, delta
