"""Rows of columns → records with a prompt and answers → who holds which."""

from fedcollm_secure.learning.data.holdings import Holdings, gather
from fedcollm_secure.learning.data.tasks import Record

__all__ = ["Holdings", "Record", "gather"]
