"""The `compare` command: the paper's baselines, and the ablations it lacks, on the same data with the same steps.

for each split and seed: baselines.py runs every method → results/SPLIT/seed-N/METHOD.json (kept, so it can go on)
comparison.py, ../seed_statistics.py: means, 95 % intervals, paired gains → compare.json, compare.html
"""

from fedcollm_secure.research.compare.compare_command import compare

__all__ = ["compare"]
