# Every target works alone on a fresh clone: what it needs is installed into .venv first.

PYTHON ?= python3
DEMO ?= demo

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo data docs test test-all test-system test-rest lint format lock wheel clean

BIN := .venv/bin
INSTALLED := .venv/.installed

# One line a download or an installation; metadata and "already satisfied" lines are left out.
PROGRESS := awk '/Downloading|Using cached|Installing|Successfully/ && !/metadata/ { print substr($$0, 1, 100); fflush() }'

PYTHON_CHECK := import sys; \
	sys.exit("ganfleet needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)

# A local version ("2.15.0+cpu") comes from the index of whoever runs `make lock`: the public one is pinned.
PIN := import json, sys; \
	found = [entry["metadata"] for entry in json.load(open(sys.argv[1]))["install"]]; \
	pins = {p["name"]: p["version"].split("+")[0] for p in found if p["name"] != "ganfleet"}; \
	print("\n".join(f"{name}=={pins[name]}" for name in sorted(pins, key=str.lower)))

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c '$(PYTHON_CHECK)'
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing requirements.lock into .venv (the first time: a few GB, some minutes)"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements.lock | $(PROGRESS)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --disable-pip-version-check --quiet \
		--no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)  ## a small search on the built-in digits (DEMO=name names it)
	@if [ -f runs/$(DEMO)/experiment.yaml ]; then $(BIN)/ganfleet search --resume $(DEMO); \
	else $(BIN)/ganfleet search --config demo name=$(DEMO); fi

data: $(INSTALLED)  ## the data sets that can be had on this machine, and how to get the others
	@$(BIN)/ganfleet data ls

# Two processes: more would disturb the tests' Ray clusters on a small machine. `make test PYTEST="-k name"` narrows.
PYTEST ?=
RUN_TESTS = $(BIN)/python -m pytest -n 2 $(PYTEST)

test: $(INSTALLED)  ## the quick tests, some minutes
	$(RUN_TESTS) -m quick

test-all: $(INSTALLED)  ## all tests that need no root
	$(RUN_TESTS) -m "not system"

test-system: $(INSTALLED)  ## tests on Slurm, two hosts, Swift, PostgreSQL and Chromium: needs root
	$(RUN_TESTS) -m system

# What `make test` leaves out, in one run: its two processes have as much to do.
test-rest: $(INSTALLED)
	$(RUN_TESTS) -m "full or system"

docs: $(INSTALLED)  ## build the documentation's pages into site/ (needs no network)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(INSTALLED)  ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## sort imports, fix what ruff can fix, format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock:  ## resolve pyproject.toml anew and rewrite requirements.lock
	@$(PYTHON) -c '$(PYTHON_CHECK)'
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@echo "resolving .[dev] (metadata only, about a minute)"
	@.venv-lock/bin/python -m pip install --disable-pip-version-check --quiet --dry-run --ignore-installed \
		--report .venv-lock/report.json '.[dev]'
	@{ sed -n '/^#/p' requirements.lock; .venv-lock/bin/python -c '$(PIN)' .venv-lock/report.json; } \
		> .venv-lock/requirements.lock
	@mv .venv-lock/requirements.lock requirements.lock && rm -rf .venv-lock
	@echo "wrote requirements.lock: $$(grep -c == requirements.lock) packages"

# By way of the source distribution, so that a stale build/ folder cannot leak into the wheel.
wheel: $(INSTALLED)  ## build the source distribution and the wheel into dist/
	@rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist . | tail -n 1

clean:  ## remove what builds and tools leave behind (not .venv, not runs/)
	rm -rf build dist site *.egg-info .venv-wheel .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name .venv -prune -o -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
