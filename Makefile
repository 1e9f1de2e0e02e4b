# `make demo` on a fresh clone: an environment of its own, then the whole story in one command.
# Where an index's torch is the CUDA build, a CPU build can be asked for:
#   make PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
BASE ?= python3
PYTHON := .venv/bin/python
STAMP := .venv/.installed

.DEFAULT_GOAL := demo
.PHONY: demo test test-all lint bench bench-quick notebooks install clean

# The stamp is younger than what it was made from, so that a second `make` has nothing to do.
$(STAMP): pyproject.toml constraints.txt
	test -x $(PYTHON) || $(BASE) -m venv .venv
	$(PYTHON) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[test,dev]"
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	.venv/bin/causalcxr demo --out demo

test: $(STAMP)
	$(PYTHON) -m pytest -m "not slow"

test-all: $(STAMP)
	$(PYTHON) -m pytest

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

bench: $(STAMP)
	$(PYTHON) -m benchmarks

bench-quick: $(STAMP)
	$(PYTHON) -m benchmarks --quick

notebooks: $(STAMP)
	.venv/bin/jupyter-execute --inplace --timeout=1200 notebooks/*.ipynb

clean:
	rm -rf .venv demo runs out build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
