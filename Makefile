# The tasks of this repository. `make run` and `make test` are all that a newcomer needs: each makes the virtual
# environment first, and renews it only when pyproject.toml changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
EXAMPLE := examples/hitless-riscv
PYTEST_ARGS ?=
BENCH_ARGS  ?=
VENDORS := amd intel arm_smmu
COMPARE := --strategy refresh --strategy unmap-remap

.DEFAULT_GOAL := help
.PHONY: kit help venv run test check static fast format format-check lint types fuzz bench bench-pages clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

venv: $(STAMP)  ## the virtual environment

$(STAMP): pyproject.toml $(EXAMPLE)/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "hitless needs Python 3.11 or newer; '$(PYTHON)' is older or missing." >&2; \
	  echo "Install one and name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "making a virtual environment failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable $(EXAMPLE)
	@touch $@

run: $(STAMP)  ## a guest's conversion log through every vendor, refresh beside unmap-remap
	$(BIN)/hitless run examples/short.log --config examples/short.toml $(COMPARE)
	$(BIN)/hitless run examples/guest-16g.log.gz --config examples/all-vendors.toml
	$(BIN)/hitless run examples/guest-16g.log.gz --config examples/all-vendors.toml $(COMPARE) --limit 2000

test: $(STAMP)  ## every test
	$(BIN)/pytest -n 2 $(PYTEST_ARGS)
	$(BIN)/pytest -n 2 -c $(EXAMPLE)/pyproject.toml --rootdir $(EXAMPLE) $(EXAMPLE)/tests

check: static fast  ## format, lint, types, import contracts, fast tests: under a minute

static: format-check lint types

fast: $(STAMP)
	HYPOTHESIS_PROFILE=fast $(BIN)/pytest -n 2 -q -m 'not slow and not fresh' $(PYTEST_ARGS)

format: $(STAMP)  ## rewrite the sources in the one format
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

format-check: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)  ## ruff, and the order of the rooms
	$(BIN)/ruff check .
	$(BIN)/lint-imports

kit: $(STAMP)  ## the conformance kit on every vendor of this repository
	for vendor in $(VENDORS); do \
	  $(BIN)/pytest -n 2 -q --pyargs hitless.conformance --iommu $$vendor $(PYTEST_ARGS) || exit 1; done
	cd $(EXAMPLE) && $(CURDIR)/$(BIN)/pytest -n 2 -q --pyargs hitless.conformance --iommu hitless_riscv:plugin $(PYTEST_ARGS)

types: $(STAMP)
	$(BIN)/mypy
	cd $(EXAMPLE) && $(CURDIR)/$(BIN)/mypy

fuzz: $(STAMP)  ## 100,000 damaged tables: no exception, no hang
	FUZZ_INPUTS=100000 $(BIN)/pytest -n 2 -q tests/inspect/test_fuzz.py $(PYTEST_ARGS)

bench: $(STAMP)  ## hitless beside plain C: a table, benchmarks/results.json and a plot
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

bench-pages: bench  ## the same, and what README and docs say of it
	$(BIN)/python -m benchmarks.costs
	$(BIN)/python -m benchmarks.readme

clean:  ## remove everything that make made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find core plugins tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
