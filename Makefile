# Works on a fresh clone with python3 (3.11 or newer) and make.
#   make run                     a server, a worker and real jobs; DIR=path, ONCE=1
#   make test                    lint and every test but the two below, under 5 minutes
#   make test-proof              a thousand simulated lives, crash states, fuzzing, real processes:
#                                what CI runs of the proof, under 5 minutes
#   make test-long               the tests marked `long`
#   make test-all                the tests on every Python 3.11-3.14 that is installed
#   make prove                   all of the proof, an hour on two processors; goes on where it
#                                stopped; PROVE_ARGS="--minutes 10", "--only wal", "--fresh"
#   make evidence                docs/evidence.md of what it has run; EVIDENCE_ARGS="--since COMMIT"
#   make museum                  every bug that was found, put back: its test must fail
#   make lint  make bench  make clean

SHELL := /bin/bash
BIN := .venv/bin
PYTEST_ARGS ?=
BENCH_ARGS ?=
PROVE_ARGS ?=
EVIDENCE_ARGS ?=
export DIR ONCE

.PHONY: run test test-proof test-long test-all prove evidence museum lint bench clean

.venv/.installed: pyproject.toml tools/make_venv.sh
	@tools/make_venv.sh .venv

run: .venv/.installed
	@$(BIN)/python examples/demo/run.py

test: lint
	$(BIN)/python -m pytest -q -m "not long and not proof" $(PYTEST_ARGS)

test-proof: .venv/.installed
	$(BIN)/python -m pytest -q -m "proof and not long" $(PYTEST_ARGS)

test-long: .venv/.installed
	$(BIN)/python -m pytest -q -m long --timeout 3600 $(PYTEST_ARGS)

test-all:
	@tools/test_all.sh $(PYTEST_ARGS)

prove: .venv/.installed
	$(BIN)/python -m proof.prove $(PROVE_ARGS)

evidence: .venv/.installed
	$(BIN)/python -m proof.evidence $(EVIDENCE_ARGS)

museum: .venv/.installed
	$(BIN)/python -m proof.museum

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/tidy.py

bench: .venv/.installed
	$(BIN)/headrace bench $(BENCH_ARGS)

# Keeps ./data and the environments.
clean:
	rm -rf build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	    .import_linter_cache
	find src tests proof tools examples benchmarks -name __pycache__ -type d -prune \
	    -exec rm -rf {} + 2>/dev/null || true
