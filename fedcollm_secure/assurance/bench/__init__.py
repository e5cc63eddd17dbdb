"""How fast it is: sums masked beside Flower's, encrypted beside NVFlare's; DP-SGD beside Opacus."""

from fedcollm_secure.assurance.bench.command import DROPOUT_PERCENT, PARAMETERS, SILOS, Sizes, bench
from fedcollm_secure.assurance.bench.encrypted_sums import bench_he, he_words
from fedcollm_secure.assurance.bench.peers import CHECKOUT, find_flower
from fedcollm_secure.assurance.bench.private_steps import bench_dpsgd, dpsgd_words
from fedcollm_secure.assurance.bench.words import bench_words

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
