# Every target makes its own virtual environment first, once, from requirements.lock.
# `make book PROFILE=smoke` runs the study on another profile.

PYTHON  ?= python3
PROFILE ?= classroom
WORKERS ?= 2
PYTEST_ARGS ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# One thread a process: the processes are the parallelism, on two cores and on many.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST = $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# Where this is set, each of the hundred processes of a book would compile its imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help book check quick test lint bench clean lock distclean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 12

book: $(STAMP) ## run all notebooks on PROFILE (default classroom), then render the book
	$(BIN)/asd study --profile $(PROFILE)
	$(BIN)/asd book --profile $(PROFILE)

check: $(STAMP) ## style, types, and the quick tests of the library: while you work
	@$(MAKE) --no-print-directory --jobs=2 lint quick

quick: $(STAMP)
	$(PYTEST) $(addprefix --ignore=tests/,book cli rendering teaching) -m "not slow" $(PYTEST_ARGS)

# A worker that has nothing left takes over tests of the others. The book of the smoke profile is
# built by the first test that reads it, beside the tests of the other workers.
test: $(STAMP) ## run all tests
	$(PYTEST) $(PYTEST_ARGS)

lint: $(STAMP) ## style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## run all benchmarks, write build/bench.json
	$(BIN)/python -m benchmarks

lock: $(STAMP) ## resolve pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade \
	  pyproject.toml --output-file requirements.lock.new
	(echo '# Exact versions for Python 3.11 to 3.13, all extras. Remake with `make lock`.' \
	  && cat requirements.lock.new) > requirements.lock.tmp
	rm requirements.lock.new
	mv requirements.lock.tmp requirements.lock

clean: ## remove what the other targets made, except the environment
	rm -rf _build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find asdlib tests benchmarks book teaching -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## the same, and the environment
	rm -rf $(VENV)

# The stamp comes last: an installation that was cut short is done again.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} found, 3.11 to 3.13 needed: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@
