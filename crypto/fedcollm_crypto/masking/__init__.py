"""Masked sums that hold against a malicious server: Bonawitz et al., CCS 2017, in its active-adversary form.

Start reading at `protocol.run_masking`, which plays all parties on one screen.
"""
