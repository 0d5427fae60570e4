# Each target does all of its own set-up: a virtual environment in .venv, torch and the rest from PyPI, the build.
# What is done is not done again: the stamps in .venv say what is.

PYTHON ?= python3
TORCH ?= torch==2.13.0
ARGS ?=

BIN := .venv/bin
SOURCES := setup.py pyproject.toml $(shell find csrc -type f 2>/dev/null)
# the versions that pyproject.toml pins for lint; pip installs an extra with its package alone
LINT = $(shell sed -n 's/^lint = \[\(.*\)\]/\1/p' pyproject.toml | tr -d ',')
CPP_FOLDERS := csrc tests/cpp bench

.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@echo 'make TARGET [ARGS="..."]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

.PHONY: demo
demo: .venv/built ## train a small network by uniform sampling, the paper's algorithm and isample (ARGS: see demo --help)
	@mkdir -p out
	$(BIN)/python -m bench.demo --output out/demo.png --json out/demo.json $(ARGS)

.PHONY: test
test: .venv/built ## all tests (ARGS go to pytest)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q -n 2 tests $(ARGS)

.PHONY: reliability
reliability: .venv/built ## break runs off, kill and resume them at random, and count what is mishandled
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.reliability $(ARGS)

.PHONY: lint
lint: .venv/lint ## check form, faults and types: ruff, pyright, clang-format
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	@if [ -f .clang-format ]; then \
	  echo '$(BIN)/clang-format --dry-run -Werror $(CPP_FOLDERS)'; \
	  find $(CPP_FOLDERS) -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.inc' \
	    | xargs $(BIN)/clang-format --dry-run -Werror; \
	else echo 'clang-format is left out: there is no .clang-format'; fi

.PHONY: fuzz
fuzz: .venv/built ## random settings, and random inputs for every op, for long (ARGS="--seconds 3600 --jobs 2"; see python -m tests.fuzz --help)
	PATH="$(CURDIR)/$(BIN):$$PATH" ISAMPLE_EXAMPLES=20 $(BIN)/python -m pytest -q tests/test_properties.py
	$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: sanitize
sanitize: .venv/built ## the C++, the extension and the CUDA stand-in under AddressSanitizer, UBSan and ThreadSanitizer
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.sanitize $(ARGS)

.PHONY: bench
bench: .venv/built ## time the ops against plain torch
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m bench.kernels $(ARGS)

# The build of CUDA torch that PyPI has for this toolkit, in an environment of its own.
CUDA_TORCH ?= torch==2.14.1
CUDA_BIN := .venv-cuda/bin

.PHONY: cuda-build
cuda-build: .venv-cuda/torch ## build for CUDA and check what the compiler made of it; needs nvcc, but no GPU
	PATH="$(CURDIR)/$(CUDA_BIN):$$PATH" $(CUDA_BIN)/python -m bench.kernels.cuda.check_build

# What the GPU machines have; PyPI's build of it is the CUDA one.
PY312 ?= python3.12
PACK_TORCH ?= torch==2.11.0
PACK_BIN := .venv312/bin
DATA ?=

.PHONY: gpu-pack
gpu-pack: .venv312/torch ## build ahead, into .gpu, what make gpu runs; needs nvcc, but no GPU (DATA=FOLDER adds CIFAR-10)
	PATH="$(CURDIR)/$(PACK_BIN):$$PATH" $(PACK_BIN)/python -m bench.gpu.pack $(if $(DATA),--data "$(DATA)")

.PHONY: gpu
gpu: ## on a machine with a GPU: test, sanitize, measure and train (ARGS=first, ARGS=second or some stages)
	$(PYTHON) -m bench.gpu $(ARGS)

.PHONY: clean
clean: ## remove whatever was built, the virtual environment included
	rm -rf .venv .venv-cuda .venv312 .gpu build out isample.egg-info .pytest_cache isample/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up -----------------------------------------------------------------------------------------------------------

# A venv without ensurepip (Debian's python3 without python3-venv) takes its pip from the system's, where there is one.
.venv312/made: override PYTHON = $(PY312)
.venv/made .venv-cuda/made .venv312/made:
	@command -v $(PYTHON) >/dev/null || { echo 'isample needs $(PYTHON): apt-get install python3 python3-venv python3-dev' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "isample needs Python 3.10 or later; $(PYTHON) is $$($(PYTHON) -V)" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	  || { echo 'isample is compiled against Python.h, which is missing: apt-get install python3-dev' >&2; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || { echo "isample needs $${CXX:-g++}: apt-get install g++" >&2; exit 1; }
	rm -rf $(@D)
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(@D); \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m venv --without-pip $(@D) && $(PYTHON) -m pip --python $(@D)/bin/python install -q pip; \
	else echo 'isample sets up a virtual environment, and $(PYTHON) has no ensurepip: apt-get install python3-venv' >&2; exit 1; fi
	@touch $@

.venv/torch: .venv/made
	$(BIN)/pip install -q $(TORCH) numpy setuptools wheel ninja
	@touch $@

.venv/lint: .venv/torch pyproject.toml
	$(BIN)/pip install -q $(LINT)
	@touch $@

.venv-cuda/torch: .venv-cuda/made
	@command -v nvcc >/dev/null || { echo 'make cuda-build compiles for CUDA and needs nvcc on the PATH: install the CUDA toolkit' >&2; exit 1; }
	$(CUDA_BIN)/pip install -q $(CUDA_TORCH) numpy setuptools wheel ninja
	@touch $@

.venv312/torch: .venv312/made
	@command -v nvcc >/dev/null || { echo 'make gpu-pack compiles for CUDA and needs nvcc on the PATH: install the CUDA toolkit' >&2; exit 1; }
	$(PACK_BIN)/pip install -q $(PACK_TORCH) numpy setuptools wheel ninja
	@touch $@

.venv/built: .venv/torch $(SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -q --no-build-isolation -e '.[demo,test]'
	@touch $@
