# The same targets on a laptop and in CI. `make demo` and `make test` set up everything themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo dev test test-unit test-faults soak test-containers lint bench lock clean

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(READY)       ## the whole story on this machine
	$(BIN)/room-worker demo

dev: $(READY)        ## the same servers and a worker, left running
	$(BIN)/room-worker dev

test: $(READY)       ## everything that needs no container engine
	$(BIN)/python -m pytest -n 4 --dist worksteal

test-unit: $(READY)  ## what needs no server
	$(BIN)/python -m pytest tests/unit

test-faults: $(READY)  ## the faults, and the judge of them, that belong to every change
	$(BIN)/python -m pytest -n 4 --dist worksteal tests/faults tests/verification tests/load

soak: $(READY)       ## every kind of fault for SOAK_MINUTES (30), judged; then what is too long for every change
	$(BIN)/python -m tests.load.soak
	$(BIN)/python -m pytest -m soak
	STATEFUL_EXAMPLES=50 $(BIN)/python -m pytest tests/faults/crash/test_stateful.py
	LOAD=full $(BIN)/python -m pytest tests/load

test-containers: $(READY)  ## builds the image and runs it, through a Docker API
	$(BIN)/python -m pytest -m container

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench  ## everything side by side on this machine, in numbers; BENCH=quick shows that it works
	$(BIN)/python -m benchmarks

$(VENV)/.bench: $(READY) requirements/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	touch $@

PIN := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate --upgrade

lock: $(READY)       ## pins anew what pyproject.toml asks for
	$(BIN)/python -m pip install --quiet uv
	$(PIN) pyproject.toml -o requirements/run.txt
	$(PIN) --extra dev pyproject.toml -o requirements/dev.txt
	$(PIN) --extra bench -c requirements/dev.txt pyproject.toml -o requirements/bench.txt
	$(PIN) requirements/build.in -o requirements/build.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
