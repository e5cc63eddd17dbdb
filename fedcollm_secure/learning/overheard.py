"""What transformers and peft warn of, gathered so that a person is told each once, in our own place and words.

Their loggers and `warnings` are silent on stderr, where our progress stands; nothing that they say is lost.
"""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager

LIBRARIES = ("transformers", "peft", "huggingface_hub")
_KNOWN = (
    "`is_gradient_checkpointing` is deprecated",  # peft asks transformers for a property that it renamed
    "The following rank_pattern keys did not match",  # peft has patterns of its own for experts
    "The following alpha_pattern keys did not match",
    "`torch_dtype` is deprecated",
)
MOST_CHARACTERS = 300


class Overheard(logging.Handler):
    """Keeps each warning once, as one line."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__(logging.WARNING)
        self.said: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a library logs."""
        self.keep(record.name.partition(".")[0], record.getMessage())

    def keep(self, library: str, text: str) -> None:
        """Keep one warning."""
        line = " ".join(text.split())
        if line and not line.startswith(_KNOWN):
            self.said.setdefault(f"{library}: {line[:MOST_CHARACTERS]}")


@contextmanager
def overheard() -> Generator[Overheard]:
    """Gather what the libraries say inside, and keep it off stderr."""
    heard, loggers = Overheard(), [logging.getLogger(name) for name in LIBRARIES]
    before = [(each.level, each.propagate, each.handlers) for each in loggers]
    for each in loggers:
        each.level, each.propagate, each.handlers = logging.WARNING, False, [heard]
        each.manager._clear_cache()  # type: ignore[attr-defined] # pyright: ignore
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield heard
        for one in caught:
            heard.keep(_library(one.filename), str(one.message))
    finally:
        for each, (level, propagate, handlers) in zip(loggers, before, strict=True):
            each.level, each.propagate, each.handlers = level, propagate, handlers


def _library(filename: str) -> str:
    return next((name for name in (*LIBRARIES, "torch") if f"/{name}/" in filename.replace("\\", "/")), "a library")
