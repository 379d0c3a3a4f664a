# make demo   train on the sample set, serve the model, ask it, stop
# make test   run the tests;  make lint   ruff and mypy
# make locks  the packages of the images, newest of what pyproject.toml and constraints.txt allow
# Each sets up what it needs in .venv. PYTHON names the interpreter (3.11 or newer).
# TORCH_INDEX_URL names another package index for torch alone, such as PyTorch's own for CPU builds.

PYTHON ?= python3
TORCH_INDEX_URL ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo test lint locks
.DELETE_ON_ERROR:

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL)) torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[training,serving,dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/python demo.py

test: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

locks: $(INSTALLED)
	$(BIN)/pip install --quiet uv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python deploy/lock.py
