# Each target does all of its own set-up: a virtual environment in .venv, torch and the rest from PyPI, the build.
# What is done is not done again: the stamps in .venv say what is.

PYTHON ?= python3
TORCH ?= torch==2.13.0
ARGS ?=

BIN := .venv/bin
SOURCES := setup.py pyproject.toml $(shell find csrc -type f 2>/dev/null)

.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@echo 'make TARGET [ARGS="..."]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

.PHONY: demo
demo: .venv/built ## train a small network with uniform and importance sampling, and compare (ARGS: see demo --help)
	@mkdir -p out
	$(BIN)/python -m isample demo --output out/demo.png --json out/demo.json $(ARGS)

.PHONY: test
test: .venv/built ## all tests (ARGS go to pytest)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q tests $(ARGS)

.PHONY: bench
bench: .venv/built ## time the ops against plain torch
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.kernels $(ARGS)

.PHONY: clean
clean: ## remove whatever was built, the virtual environment included
	rm -rf .venv build out isample.egg-info .pytest_cache isample/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up -----------------------------------------------------------------------------------------------------------

# A venv without ensurepip (Debian's python3 without python3-venv) takes its pip from the system's, where there is one.
.venv/made:
	@command -v $(PYTHON) >/dev/null || { echo 'isample needs $(PYTHON): apt-get install python3 python3-venv python3-dev' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "isample needs Python 3.10 or later; $(PYTHON) is $$($(PYTHON) -V)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	  || { echo 'isample is compiled against Python.h, which is missing: apt-get install python3-dev' >&2; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || { echo "isample needs $${CXX:-g++}: apt-get install g++" >&2; exit 1; }
	rm -rf .venv
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv .venv; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install -q pip; \
	else echo 'isample sets up a virtual environment, and $(PYTHON) has no ensurepip: apt-get install python3-venv' >&2; exit 1; fi
	@touch $@

.venv/torch: .venv/made
	$(BIN)/pip install -q $(TORCH) numpy setuptools wheel ninja
	@touch $@

.venv/built: .venv/torch $(SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -q --no-build-isolation -e '.[demo,test]'
	@touch $@
