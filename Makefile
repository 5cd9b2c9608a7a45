# `make up` and `make test` are all you need; both make their own .venv from the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

CHECK := $(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…" if sys.version_info < (3, 11) else 0)'

.DEFAULT_GOAL := help
.PHONY: up test lint types layers pytest night chaos fuzz bench docs man lock help clean

up: $(READY) ## run a whole network on this machine until Ctrl-C
	@$(BIN)/dmsg up

test: lint types layers docs pytest ## all checks

lint: $(READY) ## format and style
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(READY) ## mypy
	$(BIN)/mypy

layers: $(READY) ## who may import whom
	$(BIN)/lint-imports

WORKERS ?= auto
# What reads bytes of strangers, and what holds keys.
WHOLLY_COVERED := dmsg_trio/_wire/*,dmsg_trio/_identity/*,dmsg_trio/_keys.py,dmsg_trio/_address.py
pytest: $(READY) ## the tests, with their coverage, in WORKERS=auto processes
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='$(WHOLLY_COVERED)' --fail-under=100
	@$(BIN)/coverage report --format=total | sed 's/^/branch coverage in all: /;s/$$/ %/'

SECONDS ?= 300
CHAOS ?=
chaos: $(READY) ## SECONDS=seconds of faults in a network of 56 processes, CHAOS=options
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(CHAOS)

night: $(READY) ## the state machine of the mesh on thousands of scripts, about an hour
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/stateful

bench: $(READY) ## figures, as ratios within one run
	$(BIN)/python bench

TIME ?= 60
fuzz: $(VENV)/.fuzz ## TIME=seconds for each target
	$(BIN)/python fuzz --time $(TIME)

docs: $(VENV)/.docs ## docs/ as a site that needs no network: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo 'site/index.html'

man: $(READY) ## manual pages: MANPATH=build/man man dmsgcurl
	$(BIN)/python docs/make/man.py build/man

lock: ## resolve the newest versions anew
	@$(CHECK)
	$(PYTHON) locks/refresh.py

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

clean: ## remove the environment and all caches
	rm -rf $(VENV) site build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

$(READY): locks/dev.txt pyproject.toml
	@$(CHECK)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip -q install --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(BIN)/python -m pip -q install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.fuzz: $(READY) locks/fuzz.txt
	$(BIN)/python -m pip -q install --disable-pip-version-check --require-hashes -r locks/fuzz.txt
	@touch $@

$(VENV)/.docs: $(READY) locks/docs.txt
	$(BIN)/python -m pip -q install --disable-pip-version-check --require-hashes -r locks/docs.txt
	@touch $@
