"""The evidence pack: one folder about a run that can be filed, and checked on another machine with one command.

`pack` writes it, `pack_verification` checks it; the latter needs neither torch nor matplotlib.
"""
