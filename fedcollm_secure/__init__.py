"""FedCoLLM for consortia: a server's LLM and the silos' small models teach each other, and no silo shows its update.

The command line is `fedcollm-secure`; from Python, `config.load`, `assemble.prepare` and `assemble.start` are the way
in. The other two packages of this distribution are `fedcollm_crypto` (secure sums) and `fedcollm_privacy` (budgets).
"""
