# `make demo` in a fresh clone creates an environment and runs the whole demo.
# If the package index has the CUDA build of torch, this selects the CPU build:
#   make PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
BASE ?= python3
PYTHON := .venv/bin/python
STAMP := .venv/.installed

.DEFAULT_GOAL := demo
.PHONY: demo test test-fast durations test-all coverage fuzz lint bench bench-quick notebooks docs install clean

# The stamp is newer than the files that it depends on, so a second `make` does not install again.
$(STAMP): pyproject.toml constraints.txt
	test -x $(PYTHON) || $(BASE) -m venv .venv
	$(PYTHON) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[test,dev,docs,app,store,cluster,codecs,codecs-gpl,latent]"
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	.venv/bin/causalcxr demo --out demo --overwrite

# One worker per processor with one thread each, because the matrix products are small.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile -m "not slow"

# The inner loop, in under a minute: without the tests that `make durations` found to be long.
test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile -m "not slow and not medium"

durations: $(STAMP)
	CAUSALCXR_DURATIONS=1 OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile -m "not slow"

test-all: $(STAMP)
	$(PYTHON) -m pytest

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile -m "not slow" --cov=causalcxr --cov-branch --cov-report=term

# Damaged files of every format that is read, different ones in each pass, until the time is over.
FUZZ_SECONDS ?= 600
fuzz: $(STAMP)
	end=$$(( $$(date +%s) + $(FUZZ_SECONDS) )); while [ $$(date +%s) -lt $$end ]; do \
		CAUSALCXR_FUZZ=400 $(PYTHON) -m pytest tests/*/test_fuzz_*.py || exit 1; done

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

bench: $(STAMP)
	$(PYTHON) -m benchmarks --resume

bench-quick: $(STAMP)
	$(PYTHON) -m benchmarks --quick --resume --jobs 2

notebooks: $(STAMP)
	$(PYTHON) notebooks/execute.py

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

clean:
	rm -rf .venv demo runs out site build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
