# Needs python3 (3.11 to 3.13) with venv. Everything is installed into .venv/ below this folder.
PYTHON ?= python3
DATA   ?= ./dataset
MODEL  ?= models/classifier
WEIGHTS ?= imagenet
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Each process needs about 2 GB, and makes the models that its tests share.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
PARTS := --editable ./serving[embedded] --editable ./training --editable ./client
PYPROJECTS := serving/pyproject.toml training/pyproject.toml client/pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test coverage fuzz test-containers lint layers hooks format train-export install wire bench bench-train bench-mistakes bench-audit bench-deciding bench-serve bench-precisions bench-client bench-interruptions bench-scale clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 16

demo: $(VENV)/.installed  ## sample data -> train -> serve -> classify -> misses, on this machine
	$(BIN)/classify-train sample ./dataset --images ./images --needed-for "$(MODEL)"
	$(BIN)/classify-train train ./dataset --output "$(MODEL)" --if-none
	$(BIN)/classify-client ./images --local-server "$(MODEL)" --overwrite
	@echo "To type the commands yourself: source $(BIN)/activate"

test: $(VENV)/.developing  ## all tests
	$(PYTEST)

coverage: $(VENV)/.developing  ## all tests, and how much of the code they reach
	$(PYTEST) --cov --cov-report term:skip-covered

fuzz: $(VENV)/.developing  ## many random requests to the local server, new ones in each run
	FUZZ_EXAMPLES=20000 $(BIN)/python -m pytest tests/serving/server/test_fuzz.py --timeout 3600

test-containers: $(VENV)/.developing  ## docker compose from nothing to results, for real; needs Docker
	$(BIN)/python -m pytest tests/containers -m containers --timeout 3600

lint: $(VENV)/.developing  ## style, types and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/typos

layers: $(VENV)/.developing  ## the rooms of each package, from top to bottom
	$(BIN)/python tests/test_layers.py

hooks: $(VENV)/.developing  ## check every commit as `make lint` does
	$(BIN)/pre-commit install

format: $(VENV)/.developing  ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

train-export: $(VENV)/.installed  ## train on DATA=./dataset, export the next version of MODEL=models/classifier
	$(BIN)/classify-train train "$(DATA)" --output "$(MODEL)" $(ARGS)

install: $(VENV)/.installed  ## only set up .venv, with classify-train, classify-serve and classify-client

wire: $(VENV)/.developing  ## generate the _pb2.py of our .proto files
	$(BIN)/python -m grpc_tools.protoc -I serving --python_out=serving --pyi_out=serving serving/classify_serving/*/*.proto

bench: $(VENV)/.installed  ## measure the client's start
	$(BIN)/python -m bench.inference.startup

bench-train: $(VENV)/.installed  ## compare recipes, balancing and erasing on DATA= from WEIGHTS=
	$(BIN)/python -m bench.training "$(DATA)" --weights "$(WEIGHTS)" $(ARGS)

bench-audit: $(VENV)/.developing  ## how many wrong labels an audit finds: ARGS="DATASET --weights PATH"
	$(BIN)/python -m bench.wrong_labels.audits $(ARGS)

bench-mistakes: $(VENV)/.installed  ## how many wrong labels the review finds, and what fixing them gains
	$(BIN)/python -m bench.wrong_labels.mistakes $(ARGS)

bench-deciding: $(VENV)/.developing  ## keys and time that 50 decisions need, in a browser: ARGS="DATASET --weights PATH"
	$(BIN)/python -m bench.wrong_labels.deciding $(ARGS)

bench-serve: $(VENV)/.installed  ## throughput and latency of the local server, in float32, bfloat16 and int8
	$(BIN)/python -m bench.inference.serving $(ARGS)

bench-precisions: $(VENV)/.installed  ## speed of a model in float32, bfloat16 and int8, in-process
	$(BIN)/python -m bench.inference.precisions $(ARGS)

bench-client: $(VENV)/.installed  ## compare the client with decoding alone, the model alone and a simple client
	$(BIN)/python -m bench.inference.client $(ARGS)

bench-interruptions: $(VENV)/.installed  ## kill the client, trainings and applies at random moments, and check what is left
	$(BIN)/python -m bench.interrupting.interruptions $(ARGS)

bench-scale: $(VENV)/.developing  ## throughput of the client on a cluster of 1 to 8 machines, its overhead and its memory
	$(BIN)/python -m bench.cluster.scale $(ARGS)

clean:  ## remove .venv and caches; data, models and results stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*

$(VENV)/.installed: constraints.txt $(PYPROJECTS) | $(VENV)/bin/python
	@echo "Installing TensorFlow and the three parts into $(VENV) (a minute or two, once) ..."
	$(PIP) $(PARTS)
	@touch $@

$(VENV)/.developing: requirements-dev.txt $(VENV)/.installed
	$(PIP) --requirement requirements-dev.txt
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "This Python cannot make virtual environments: install python3-venv" >&2; exit 1; }
