# `make up` and `make test` are all you need; both make their own .venv from the lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: up test lint types layers pytest coverage fuzz bench lock clean

up: $(READY) ## run a whole network on this machine until Ctrl-C
	@$(BIN)/dmsg up

test: lint types layers pytest ## all checks

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

pytest: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='dmsg_trio/_wire/*' --fail-under=100
	@$(BIN)/coverage report --format=total | sed 's/^/branch coverage in all: /;s/$$/ %/'

bench: $(READY) ## figures, as ratios within one run
	$(BIN)/python bench

TIME ?= 60
fuzz: $(VENV)/.fuzz ## TIME=seconds for each target
	$(BIN)/python fuzz --time $(TIME)

lock: $(READY) ## resolve the newest versions anew
	$(BIN)/python -m pip -q install pip-tools
	$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--allow-unsafe --strip-extras --no-header --extra redis --group dev -o locks/dev.txt pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

$(READY): locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip -q install --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(BIN)/python -m pip -q install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.fuzz: $(READY) locks/fuzz.txt
	$(BIN)/python -m pip -q install --disable-pip-version-check --require-hashes -r locks/fuzz.txt
	@touch $@
