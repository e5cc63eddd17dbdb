"""What is written down: the signed, hash-chained log of a run, and the checks that need nobody's word.

Data passes through as Event → canonical JSON → signed line → `RUN/audit/log.jsonl`, and back through `verify_run`.
"""
