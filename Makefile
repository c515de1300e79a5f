# Needs only Python >= 3.11 with pip, and make. Everything else goes into .venv.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$p && break; done)

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
EXTRAS := jax,tuner,plot,log,demo,test

# On Linux PCs the build without CUDA: the same code, half the download.
ifeq ($(shell uname -sm),Linux x86_64)
TENSORFLOW ?= tensorflow-cpu>=2.21
else
TENSORFLOW ?= tensorflow>=2.21
endif

# What `make demo` and `make speed` run on; the tests run on both.
KERAS_BACKEND ?= jax
BACKENDS := jax tensorflow
PYTEST := $(RUN) -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint suite suite-all speed tables bench \
	bench-full bench-table bench-peers clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
	awk -F ':.*## ' '{ split($$1, t, ":"); printf "  make %-9s %s\n", t[1], $$2 }'

install: $(STAMP) ## Make .venv with everything the demo and the tests need.

# Where Python comes without ensurepip, its own pip fills the environment.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "hypergrad needs Python >= 3.11 and found none." \
	"Install one, or name it: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV) && \
	$(PYTHON) -m venv --without-pip $(VENV) && \
	$(PYTHON) -m pip --python $(RUN) install --quiet pip; }
	@echo "Installing into $(VENV) (once, some minutes) ..."
	@$(RUN) -m pip install --quiet --editable ".[$(EXTRAS)]" "$(TENSORFLOW)"
	@touch $@

demo: $(STAMP) ## Tune a model on the digits: a table and a picture.
	@KERAS_BACKEND=$(KERAS_BACKEND) $(RUN) benchmarks/demo/run.py

test: lint suite ## Linter, type checker, and the suite once per backend.

test-all: lint suite-all ## The same with the slow tests.

lint: $(STAMP)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

# The float64 session holds all tests but those marked float32; each is left out of
# the session of the other precision. The first failing session ends the run.
suite suite-all: SLOW = and not slow
suite-all: SLOW =
suite suite-all: $(STAMP)
	@set -e; for backend in $(BACKENDS); do \
	  export KERAS_BACKEND=$$backend; \
	  echo "== $$backend, float64"; \
	  HYPERGRAD_TEST_FLOATX=float64 $(PYTEST) -m "not float32 $(SLOW)"; \
	  echo "== $$backend, float32"; \
	  HYPERGRAD_TEST_FLOATX=float32 $(PYTEST) -m "float32 $(SLOW)"; \
	done

speed: $(STAMP) ## Ratios against plain training, on both backends.
	@set -e; for backend in $(BACKENDS); do \
	  KERAS_BACKEND=$$backend $(RUN) benchmarks/speed/run.py --fit --memory \
	    --out out/speed/$$backend.json; \
	done

# torch is what Optuna's Gaussian process is made of. Without its build for CPUs that
# one method is left out and listed.
TORCH ?= torch==2.13.0+cpu
BENCH := $(VENV)/.bench

$(BENCH): $(STAMP)
	@$(RUN) -m pip install --quiet --editable ".[bench]"
	@$(RUN) -m pip install --quiet "$(TORCH)" || echo "No $(TORCH): optuna-gp is left out."
	@touch $@

bench: $(BENCH) ## A short comparison with other ways to search (10 minutes).
	@KERAS_BACKEND=$(KERAS_BACKEND) $(RUN) benchmarks/compare.py --short
	@$(RUN) benchmarks/report/run.py --out out/bench-short \
	  benchmarks/outputs/short-*.parquet

bench-full: $(BENCH) ## The whole comparison; goes on where it was interrupted (hours).
	@KERAS_BACKEND=$(KERAS_BACKEND) $(RUN) benchmarks/compare.py
	@$(MAKE) bench-table

bench-table: $(BENCH) ## Tables and pictures of the stored results.
	@$(RUN) benchmarks/report/run.py

# PyTorch and the libraries on it live apart: they ask for other versions.
PEERS := .venv-peers

$(PEERS)/.installed: $(STAMP)
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS) || { rm -rf $(PEERS) && \
	$(PYTHON) -m venv --without-pip $(PEERS) && \
	$(PYTHON) -m pip --python $(PEERS)/bin/python install --quiet pip; }
	@$(PEERS)/bin/python -m pip install --quiet "$(TORCH)" || \
	$(PEERS)/bin/python -m pip install --quiet "torch==2.13.0"
	@$(PEERS)/bin/python -m pip install --quiet numpy setuptools higher==0.2.1 torchopt==0.7.3
	@touch $@

bench-peers: $(PEERS)/.installed ## higher, TorchOpt, optax and PyTorch beside it (20 minutes).
	@$(RUN) benchmarks/peers/run.py --torch $(PEERS)/bin/python

# The cells of docs/support.md, each judged by the test of its name.
TABLE := tests/test_layers.py tests/test_schedules.py tests/test_data_targets.py \
	tests/contract/test_truth_mlps.py
CELLS := not hand_written and (not tanh or Adafactor or Lamb)

tables: $(STAMP) ## Measure the tables of docs/support.md again (15 minutes).
	@set -e; for backend in $(BACKENDS); do \
	  export KERAS_BACKEND=$$backend HYPERGRAD_TEST_FLOATX=float64; \
	  $(PYTEST) $(TABLE) -k "$(CELLS)" \
	    --junitxml=out/tables/$$backend.xml; \
	  $(PYTEST) tests/contract/test_rules_parity.py -m "not float32" -k "not accumulation" \
	    --junitxml=out/tables/$$backend-parity.xml; \
	done
	@KERAS_BACKEND=jax $(RUN) docs/make_support.py out/tables/*.xml

clean: ## Remove .venv, caches and what programs wrote to out/.
	rm -rf $(VENV) $(PEERS) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
