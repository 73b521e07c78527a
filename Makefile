# make help lists what there is. Every target works on a fresh machine with python3.11, its venv module, git and make.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# torch comes by plain pip, so that the machine's pip configuration decides between its CPU and CUDA builds.
PIP := pip==26.3
UV := uv==0.13.8
TORCH := torch==2.13.0

# tests/conftest.py says which tests stay together when several processes share them, and in which order they come.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --dist loadscope --no-loadscope-reorder

# The demo's own data directory: `make demo` never touches the one of your runs (var/).
DEMO_HOME ?= var/demo
DATASET ?= taobao
# A log that is quickly learned from, with some of every flaw that real ones have.
DEMO_LOG := --users 1500 --items 800 --seed 1 --dirt.duplicates 20 --dirt.outside-window 6 --dirt.unknown-codes 4 \
    --dirt.short-lines 3 --dirt.cut-last-line
# A log of your own, with the settings of its preset: make demo DATASET=movielens RAW=path/to/ml-100k
RAW ?=
ifeq ($(RAW),)
# Small batches and a high rate for a small log; the presets have the papers' settings. As many epochs for one model as
# for the other.
DEMO_TRAIN ?= {"max_epochs": 20, "patience": 8, "batch_size": 32, "lr": 0.002, "max_length": 80}
DEMO_OVERRIDES ?= {"hmar": {"lr": 0.004, "negatives": 8, "config": {"d": 48, "dropout": 0.2}}}
endif
DEMO_TRAIN ?= {}
DEMO_OVERRIDES ?= {}

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where this is set, every process would compile this project and its tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo up down test test-fast lint format lock wheel clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP) ## Virtual environment in .venv with everything; quick when nothing changed

$(STAMP): requirements.lock pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on this machine; on Debian: apt-get install python3.11 python3.11-venv (or make setup PYTHON=...)" >&2; exit 69; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments (no ensurepip); on Debian: apt-get install python3.11-venv" >&2; exit 69; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP) $(UV)
	@# uv is fast but does not read pip's configuration: where an index of your own is set there, pip does it.
	@# Compiled now and not by each of the many processes to come, where PYTHONDONTWRITEBYTECODE keeps these from caching.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps -r requirements.lock \
	    || $(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

demo: setup ## A whole run through Airflow on a generated log, or on RAW=... DATASET=...; services stay up
	@raw="$(RAW)"; \
	if [[ -z $$raw ]]; then raw="$(DEMO_HOME)/raw/$(DATASET)"; $(BIN)/hmar simulate --source $(DATASET) --out "$$raw" $(DEMO_LOG); fi; \
	$(BIN)/hmar up --home $(DEMO_HOME) --database sqlite; \
	$(BIN)/hmar trigger --home $(DEMO_HOME) --dataset $(DATASET) --raw "$$raw" --train '$(DEMO_TRAIN)' \
	    --overrides '$(DEMO_OVERRIDES)' --follow; \
	user=$$($(BIN)/python -c 'import json, pathlib, sys; import pyarrow.parquet as pq; at = pathlib.Path(sys.argv[1]); \
	    print(pq.read_table(at / json.loads((at / "latest.json").read_text())["path"], columns=["user_id"])[0][0])' \
	    $(DEMO_HOME)/recommendations/$(DATASET)); \
	$(BIN)/hmar recommend --home $(DEMO_HOME) --dataset $(DATASET) --recommend.k 10 --user "$$user"; \
	$(BIN)/hmar up --home $(DEMO_HOME); \
	echo "Everything stays up, data in $(DEMO_HOME). To stop: make down"

up: setup ## Airflow and the MLflow pages for your own runs, in var/ or HMAR_HOME
	$(BIN)/hmar up

down: ## Stop the services of the demo and of your own runs
	@if [[ -x $(BIN)/hmar ]]; then for home in $(DEMO_HOME) $${HMAR_HOME:-var}; do if [[ -d $$home/services ]]; then $(BIN)/hmar down --home $$home; fi; done; fi

lint: setup ## ruff, mypy and sqlfluff; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint sql

format: setup ## Let ruff and sqlfluff rewrite what they can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix sql

test: lint ## Lint, then every test; those that start real servers run one after another, in a process of their own
	$(PYTEST) -n 5

test-fast: setup ## What is neither slow nor needs a server: a few minutes
	$(PYTEST) -n 4 -m "not slow and not integration"

lock: setup ## Resolve pyproject.toml again; UPGRADE=1 moves pinned versions too
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --python-version 3.11 --no-emit-package torch \
	    --generate-hashes --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) -o requirements.lock

wheel: setup ## dist/*.whl, with sql/, dags/ and presets inside
	$(BIN)/python -m hatchling build -t wheel

clean: ## Remove the environment, caches and build outputs; keeps var/
	rm -rf $(VENV) dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
