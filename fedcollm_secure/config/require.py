"""`require`, the one way in which a setting refuses itself."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with what was expected and what came; the loader adds the key's path."""
    if not condition:
        raise ValueError(message)
