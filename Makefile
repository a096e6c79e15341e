# Everything that a developer or CI runs. `make` lists the targets.

PYTHON ?= python3
RELUCE_DATA ?= ../shared
SECONDS ?= 1200

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo fuzz test lint bench bench-ways bench-decide bench-all bench-baselines bench-growth bench-certificates bench-guard bench-rewrites bench-train bench-hostile bench-crash train-example long clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: .venv/core.stamp ## compress the example network, check the proofs, run both side by side
	@mkdir -p build
	$(BIN)/reluce compress examples/digits.onnx build/digits-exact.onnx --range 0,1 --data examples/digits-data.npz --guarantee exact
	$(BIN)/reluce compress examples/digits.onnx build/digits-roundoff.onnx --range 0,1 --data examples/digits-data.npz
	$(BIN)/reluce compress examples/digits.onnx build/digits-within.onnx --range 0,1 --data examples/digits-data.npz --guarantee within=1e-5
	$(BIN)/reluce-check examples/digits.onnx build/digits-exact.onnx build/digits-exact.cert --range 0,1
	$(BIN)/reluce-check examples/digits.onnx build/digits-roundoff.onnx build/digits-roundoff.cert --range 0,1
	$(BIN)/python examples/run_small.py examples/digits.onnx build/digits-exact.onnx
	$(BIN)/python examples/run_small.py examples/digits.onnx build/digits-roundoff.onnx
	$(BIN)/python examples/run_small.py examples/digits.onnx build/digits-within.onnx

test: lint ## lint, then all tests but the long ones
	$(BIN)/pytest -n auto

lint: .venv/dev.stamp ## style, format, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv/core.stamp ## measure what the README's figures come from (RELUCE_DATA=folder of public networks)
	$(BIN)/python benchmarks/run.py --data $(RELUCE_DATA)

bench-ways: .venv/dev.stamp ## the same networks as files, torch modules and torch's exports; all VNN-LIB files
	$(BIN)/python benchmarks/specifications.py --data $(RELUCE_DATA)
	$(BIN)/python benchmarks/round_trip.py --data $(RELUCE_DATA)

bench-decide: .venv/core.stamp ## how far a list of networks is decided, without data; what is done is not done again
	$(BIN)/python benchmarks/decide.py --data $(RELUCE_DATA)

bench-all: .venv/core.stamp ## the same for every network of the folder (hours)
	$(BIN)/python benchmarks/decide.py --data $(RELUCE_DATA) --all

bench-baselines: .venv/dev.stamp ## against LEO and ISA as published, on the same solver
	$(BIN)/python benchmarks/baselines.py --data $(RELUCE_DATA)

bench-growth: .venv/core.stamp ## time against width and depth
	$(BIN)/python benchmarks/growth.py --data $(RELUCE_DATA)

bench-certificates: .venv/core.stamp ## what a certificate costs: units, seconds, bytes; what is done is not done again
	$(BIN)/python benchmarks/certificates.py --data $(RELUCE_DATA)

bench-train: .venv/dev.stamp ## train, compress, compare with LEO and ISA as published; what is done is not done again (hours)
	$(BIN)/python benchmarks/training.py --data $(RELUCE_DATA)

bench-hostile: .venv/dev.stamp ## hostile and malformed files, adversarial cases, every network: nothing crashes or hangs (hours)
	$(BIN)/python benchmarks/hostile.py --data $(RELUCE_DATA)

bench-crash: .venv/core.stamp ## kill runs at random moments and let them go on; full and read-only disks (half an hour; root)
	$(BIN)/python benchmarks/crash.py --data $(RELUCE_DATA)

bench-rewrites: .venv/core.stamp ## what each rewrite takes out of real networks, and whether their order matters
	$(BIN)/python benchmarks/rewrites.py --data $(RELUCE_DATA)

bench-guard: .venv/core.stamp ## what guards answer on 100,000 inputs of real networks, and what they cost
	$(BIN)/python benchmarks/guard.py --data $(RELUCE_DATA)

forge: .venv/dev.stamp ## forged certificates, random networks and lying engines against an exact oracle (an hour)
	$(BIN)/python benchmarks/forge.py --count 12000 --honest 20000 --lies 2000

mutants: .venv/dev.stamp ## mutation testing of the checker (hours)
	$(BIN)/python benchmarks/mutants.py --count 1000

fuzz: .venv/fuzz.stamp ## fuzz everything that reads a file (SECONDS for each of three targets; Linux)
	$(BIN)/python benchmarks/fuzz.py --seconds $(SECONDS) $(if $(wildcard $(RELUCE_DATA)),--data $(RELUCE_DATA))

train-example: .venv/core.stamp ## train examples/digits.onnx again
	$(BIN)/python examples/train_digits.py

long: .venv/dev.stamp ## property tests with many more examples (minutes)
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -n auto -m long

clean: ## remove what was built and cached (.venv stays)
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Reluce needs Python 3.11 or newer, and "$(PYTHON)" is not. Name another: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo 'No virtual environment could be made. On Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }

.venv/core.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[examples]'
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

.venv/fuzz.stamp: .venv/dev.stamp
	$(PIP_INSTALL) --editable '.[fuzz]'
	@touch $@
