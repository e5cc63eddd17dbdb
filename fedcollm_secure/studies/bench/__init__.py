"""How fast it is: the masked sum beside Flower's SecAgg+ and the keystream; DP-SGD beside Opacus and no DP at all."""

from fedcollm_secure.studies.bench.command import DROPOUT_PERCENT, PARAMETERS, SILOS, Sizes, bench
from fedcollm_secure.studies.bench.peers import CHECKOUT, find_flower
from fedcollm_secure.studies.bench.private_steps import bench_dpsgd, dpsgd_words
from fedcollm_secure.studies.bench.words import bench_words

__all__ = [
    "CHECKOUT",
    "DROPOUT_PERCENT",
    "PARAMETERS",
    "SILOS",
    "Sizes",
    "bench",
    "bench_dpsgd",
    "bench_words",
    "dpsgd_words",
    "find_flower",
]
