"""How pages, figures and tables write numbers; `epsilon_text.py` has those of a budget."""

PERCENT_SCORES = {"accuracy", "accuracy_norm", "exact_match"}
LOWER_IS_BETTER = {"perplexity"}
MINUS = "−"


def metric_name(metric: str) -> str:
    """`accuracy_norm` → `length-normalised accuracy`."""
    return {"accuracy_norm": "length-normalised accuracy"}.get(metric, metric.replace("_", " "))


def score(value: float, metric: str) -> str:
    """A share as per cent with one decimal, a perplexity with two."""
    return f"{100 * value:.1f} %" if metric in PERCENT_SCORES else f"{value:.2f}"


def gain(before: float, after: float, metric: str) -> str:
    """The change from `before` to `after`, with its sign: points of a per cent, or a perplexity."""
    if metric in PERCENT_SCORES:
        return f"{signed(100 * (after - before), 1)} points"
    return signed(after - before, 2)


def signed(value: float, digits: int) -> str:
    """`+6.5` or `−6.5`, with a true minus; what rounds to nothing has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def small(value: float) -> str:
    """`1e-05` → `1e-5`, as a configuration writes it."""
    text = f"{value:g}"
    return text.replace("e-0", "e-").replace("e+0", "e+")


def amount(count: float) -> str:
    """Bytes, in decimal units: `2.4 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:  # 999.6 would be printed as 1000
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s` or `1 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def shortened(name: str, letters: int = 22) -> str:
    """A name that fits beside a line in a figure."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
