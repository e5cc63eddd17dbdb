"""What a population has spent, written down before it can leave: one append-only, hash-chained file per population.

entry.py: the lines of the file, and their chain. book.py: what they mean and cost, without any I/O. file.py: `Ledger`,
which makes each line durable before it returns.
"""

from fedcollm_privacy.ledger.book import Book, LedgerRow, RoundState
from fedcollm_privacy.ledger.file import Disk, Ledger, epsilon_at, read_book, read_ledger

__all__ = ["Book", "Disk", "Ledger", "LedgerRow", "RoundState", "epsilon_at", "read_book", "read_ledger"]
