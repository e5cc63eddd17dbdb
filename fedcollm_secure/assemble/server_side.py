"""What the coordinator alone has: both models, public test data and its auxiliary set; nobody else's record."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedcollm_secure.assemble.common import Common
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.models import Base


@dataclass(frozen=True, kw_only=True)
class ServerSide:
    """The server's part of a run, in memory."""

    common: Common
    llm: Base = field(repr=False)
    slm: Base = field(repr=False)
    encoder: Encoder = field(repr=False)
    llm_encoder: Encoder = field(repr=False)  # the same one, unless `distill.align: tokens`
    server_llm: Adapter = field(repr=False)
    server_slm: Adapter = field(repr=False)
    test: Sequence[Record] = field(repr=False)
    auxiliary: Sequence[Record] = field(repr=False)
