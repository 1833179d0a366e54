# `make` lists what there is. Everything runs from .venv in this checkout, which `make venv` builds from the locks.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV ?= uv
BIN := .venv/bin
# three files of tests at a time, on two processors: most of them wait for brokers; those come first
BESIDE := -n 3 --dist loadfile --no-loadscope-reorder
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help venv demo test guarantees chaos fmt lint bench recovery broker lock

help: ## list these recipes
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

venv: $(BIN)/evidence ## build .venv from the locks, with the project in it

demo: venv ## publish a planted A/B test to a broker of its own, run the worker, compare
	$(BIN)/evidence demo

test: lint ## what CI runs: lint, and all tests with both brokers
	$(BIN)/pytest $(BESIDE)

guarantees: venv ## run the tests behind the guarantees, and write their tables with today's date where they pass
	$(BIN)/python -m tests.guarantees $(BESIDE)

chaos: venv ## kill, hang and starve workers and brokers for CHAOS_MINUTES (60), by CHAOS_SEED; see tests/chaos/README.md
	CHAOS_MINUTES=$(or $(CHAOS_MINUTES),60) $(BIN)/pytest tests/chaos
	$(BIN)/python -m tests.chaos.long --minutes $(or $(CHAOS_MINUTES),60) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))

fmt: venv ## bring the code into shape
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: venv ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file client/pyproject.toml client/evidence_client
	$(BIN)/lint-imports

bench: venv ## measure the hot path, then all of it beside what one would write instead; takes minutes
	$(BIN)/pytest benchmarks --benchmark-only --benchmark-columns=min,median,rounds
	$(BIN)/python -m benchmarks.open_units
	$(BIN)/python -m benchmarks.end_to_end
	$(BIN)/python -m benchmarks.shapes
	$(BIN)/python -m benchmarks.scaling --events 3000000
	$(BIN)/python -m benchmarks.on_paper
	$(BIN)/python -m benchmarks.client_latency
	$(BIN)/python -m benchmarks.soak --units 300000 --minutes 5 --picture build/soak.png

recovery: venv ## measure how long partitions stand still when their worker is killed
	$(BIN)/python -m benchmarks.recovery

broker: venv ## run Apache Kafka at localhost:9092 until Ctrl-C
	$(BIN)/python -m tests.brokers run

lock: ## write the locks again from pyproject.toml (needs uv)
	$(COMPILE) --upgrade --all-extras pyproject.toml client/pyproject.toml --output-file requirements-dev.txt
	$(COMPILE) --constraint requirements-dev.txt pyproject.toml --output-file requirements.txt
	echo hatchling | $(COMPILE) --constraint requirements-dev.txt - --output-file requirements-build.txt

$(BIN)/evidence: requirements-dev.txt pyproject.toml client/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . --editable client
	@touch $@
