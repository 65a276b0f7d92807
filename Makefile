# The same targets on a laptop and in CI. Every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The tests start more than a hundred Python processes; each would compile its modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo dev check test test-unit test-faults soak test-containers lint bench reference dist lock clean

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY)       ## plays a short story on this machine, with NATS, MongoDB and the worker
	$(BIN)/room-worker demo

dev: $(READY)        ## starts the same servers and a worker, and leaves them running
	$(BIN)/room-worker dev

check: lint          ## lint, the unit tests and the store's tests: enough before a commit
	$(BIN)/python -m pytest -n 4 --dist worksteal tests/unit tests/contract

test: $(READY)       ## every test except the container and the soak tests
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-unit: $(READY)  ## the tests that need no server
	$(BIN)/python -m pytest tests/unit

test-faults: $(READY)  ## fault tests, verification and load tests
	$(BIN)/python -m pytest -n 4 --dist worksteal tests/faults tests/verification tests/load

soak: $(READY)       ## random faults for SOAK_MINUTES (30), judged by the oracle; then the long tests
	$(BIN)/python -m tests.load.soak
	$(BIN)/python -m pytest -m soak
	STATEFUL_EXAMPLES=50 $(BIN)/python -m pytest tests/faults/crash/test_stateful.py
	LOAD=full $(BIN)/python -m pytest tests/load

test-containers: $(READY)  ## builds the image; runs it and the compose file, through a Docker API
	$(BIN)/python -m pytest -m container

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## every benchmark; BENCH=quick only shows that they work
	$(BIN)/python -m benchmarks

$(VENV)/.bench: $(READY) requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	touch $@

reference: $(READY)  ## writes docs/reference from the code
	$(BIN)/python -m tests.unit.cli.reference_pages docs/reference

# Every file in what `make dist` builds has the time of the last commit.
DIST := dist
AGAIN := $(abspath $(VENV))/build/again
HATCHLING := $(abspath $(VENV))/build/bin/python -m hatchling build

dist: export SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),1580601600)
dist: $(VENV)/build/.ready  ## builds the sdist and both wheels, twice, and compares their bytes
	rm -rf $(DIST) $(AGAIN)
	$(HATCHLING) -d $(DIST)
	cd wheels/client && $(HATCHLING) -t wheel -d $(abspath $(DIST))
	$(HATCHLING) -d $(AGAIN)
	cd wheels/client && $(HATCHLING) -t wheel -d $(AGAIN)
	diff -r $(DIST) $(AGAIN)

$(VENV)/build/.ready: requirements/build.txt
	$(PYTHON) -m venv $(VENV)/build
	$(VENV)/build/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	touch $@

PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate --upgrade

lock: $(READY)       ## resolves the requirements of pyproject.toml again and pins them
	$(BIN)/python -m pip install --quiet uv
	$(PIN) pyproject.toml -o requirements/run.txt
	$(PIN) --extra servers --group dev pyproject.toml -o requirements/dev.txt
	$(PIN) --group bench -c requirements/dev.txt pyproject.toml -o requirements/bench.txt
	$(PIN) -c requirements/dev.txt requirements/build.in -o requirements/build.txt

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
