# make demo    install into .venv and run the main job           make check        ruff, mypy, pyright, the floors
# make test    install and pass the tests                        make constraints  refresh the tested pins
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test fuzz check format coverage constraints clean

demo: $(VENV)/.installed
	$(BIN)/fedcollm-secure run examples/dp_config.yaml

test: $(VENV)/.developing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

# A hundred thousand changed requests to the parties of an encrypted sum: some minutes. `make test` runs two thousand.
fuzz: $(VENV)/.developing
	FUZZ_CASES=100000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/crypto/homomorphic -k fuzz

check: $(VENV)/.developing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

coverage: $(VENV)/.developing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --cov --cov-report=term

format: $(VENV)/.developing
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The newest of everything but torch, tested, becomes the next constraints.txt. For a schedule, e.g. weekly.
constraints:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	printf 'torch==2.13.*\n' > .venv-newest/torch.txt
	.venv-newest/bin/pip install -q -c .venv-newest/torch.txt -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -q -n 2 --dist worksteal
	(echo '# What was tested, written by `make constraints`.'; echo 'torch==2.13.*'; \
	  .venv-newest/bin/pip freeze --exclude-editable | grep -v -i '^torch==') > constraints.txt
	rm -rf .venv-newest

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.developing: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .venv-newest dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

-include benchmarks/peers.mk
