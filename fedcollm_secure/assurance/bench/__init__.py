"""How fast it is: sums beside Flower's and NVFlare's, DP-SGD beside Opacus, scoring beside reading prompts once."""

from fedcollm_secure.assurance.bench.dpsgd_bench import bench_dpsgd, dpsgd_words
from fedcollm_secure.assurance.bench.encryption_bench import bench_he, he_words
from fedcollm_secure.assurance.bench.masking_bench import DROPOUT_PERCENT, PARAMETERS, SILOS, Sizes, bench
from fedcollm_secure.assurance.bench.masking_table import bench_words
from fedcollm_secure.assurance.bench.peer_environment import CHECKOUT, find_flower
from fedcollm_secure.assurance.bench.scoring_bench import bench_scoring, scoring_words

__all__ = [
    "CHECKOUT",
    "DROPOUT_PERCENT",
    "PARAMETERS",
    "SILOS",
    "Sizes",
    "bench",
    "bench_dpsgd",
    "bench_he",
    "bench_scoring",
    "bench_words",
    "dpsgd_words",
    "find_flower",
    "he_words",
    "scoring_words",
]
