"""How fast it is: the masked sum beside Flower's SecAgg+ and beside the keystream that it is made of."""

from fedcollm_secure.studies.bench.command import DROPOUT_PERCENT, PARAMETERS, SILOS, Sizes, bench
from fedcollm_secure.studies.bench.peers import CHECKOUT, find_flower
from fedcollm_secure.studies.bench.words import bench_words

__all__ = ["CHECKOUT", "DROPOUT_PERCENT", "PARAMETERS", "SILOS", "Sizes", "bench", "bench_words", "find_flower"]
