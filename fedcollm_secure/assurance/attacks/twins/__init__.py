"""Known-bad twins: our own code, written from published descriptions of flaws, so that attacks have something to break.

Nothing outside `assurance.attacks` can import them (an import contract in pyproject.toml); no run reaches them.
"""
