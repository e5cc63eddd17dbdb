"""How fast it is: sums masked beside Flower's, encrypted beside NVFlare's; DP-SGD beside Opacus."""

from fedcollm_secure.assurance.bench.dpsgd_bench import bench_dpsgd, dpsgd_words
from fedcollm_secure.assurance.bench.encryption_bench import bench_he, he_words
from fedcollm_secure.assurance.bench.masking_bench import DROPOUT_PERCENT, PARAMETERS, SILOS, Sizes, bench
from fedcollm_secure.assurance.bench.masking_table import bench_words
from fedcollm_secure.assurance.bench.peer_environment import CHECKOUT, find_flower

__all__ = [
    "CHECKOUT",
    "DROPOUT_PERCENT",
    "PARAMETERS",
    "SILOS",
    "Sizes",
    "bench",
    "bench_dpsgd",
    "bench_he",
    "bench_words",
    "dpsgd_words",
    "find_flower",
    "he_words",
]
