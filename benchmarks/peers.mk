# The peers that `fedcollm-secure bench` measures beside us, in an environment of their own: `make bench-peers`.
PEERS := .venv-peers

.PHONY: bench-peers peers-constraints

bench-peers: $(PEERS)/.installed

$(PEERS)/.installed: benchmarks/requirements.txt benchmarks/constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -r benchmarks/requirements.txt -c benchmarks/constraints.txt
	touch $@

# The newest of what the peers ask for becomes the next benchmarks/constraints.txt; the peers themselves stay.
peers-constraints:
	rm -rf $(PEERS)
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install -q -r benchmarks/requirements.txt
	(echo '# What was measured, written by `make peers-constraints`.'; $(PEERS)/bin/pip freeze) > benchmarks/constraints.txt
	touch $(PEERS)/.installed
