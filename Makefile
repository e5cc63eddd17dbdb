# make demo    install into .venv and run the main job           make check        ruff, mypy, pyright, the floors
# make test    install and pass the tests                        make constraints  refresh the tested pins
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14; do \
  $$python -c 'import venv' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
# A plain install of torch on Linux brings the GPU's libraries. README says how a CPU build is had instead.
TELL_DOWNLOAD = $(BIN)/python -c 'import torch' 2>/dev/null || echo 'Downloading torch, transformers, peft, opacus and what\
 they need into $(VENV)/: about 1 GB, and on Linux about 3 GB more of GPU libraries, unless torch is there already.'

.PHONY: demo test fuzz check format coverage constraints clean

demo: $(VENV)/.installed
	@echo 'Running the main job: about two minutes on two cores.'
	$(BIN)/fedcollm-secure run examples/dp_config.yaml

test: $(VENV)/.developing
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

# What `make test` samples, at length: a hundred thousand changed requests to the parties of an encrypted sum (it runs two
# thousand), every place where a disk can fail (every fourth), a thousand tamperings (a hundred). Some twenty minutes.
fuzz: $(VENV)/.developing
	FULL_DISK_EVERY=1 TAMPERINGS=1000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/end_to_end/test_full_disk.py \
	  tests/end_to_end/test_tampering.py
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
	$(call need_python)
	$(PYTHON) -m venv .venv-newest
	printf 'torch==2.13.*\n' > .venv-newest/torch.txt
	.venv-newest/bin/pip install -q -c .venv-newest/torch.txt -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -q -n 2 --dist worksteal
	(echo '# What was tested, written by `make constraints`.'; echo 'torch==2.13.*'; \
	  .venv-newest/bin/pip freeze --exclude-editable | grep -v -i '^torch==') > constraints.txt
	rm -rf .venv-newest

define need_python
@test -n '$(PYTHON)' || { echo 'No Python 3.11 to 3.14 was found: install one, or say make PYTHON=/path/to/python'; exit 1; }
endef

$(VENV)/bin/python:
	$(call need_python)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(TELL_DOWNLOAD)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.developing: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(TELL_DOWNLOAD)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .venv-newest dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

-include benchmarks/peers.mk
