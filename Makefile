# lsd_nb: every job of the project, one word each. `make` alone lists them.
#   PYTHON=python3.12 make run     choose the Python (3.10 or later) of the environment
#   VENV=/some/folder make run     put the environment elsewhere (default: .venv)

PYTHON  ?= python3
VENV    ?= .venv
SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN     := $(VENV)/bin
# pip keeps to the tested versions, says little, and does not ask for updates of itself
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# stamps live inside the environment, so that removing it removes them too
STAMP   := $(VENV)/.lsd_nb
REUSED  := $(if $(wildcard $(STAMP)-run), (reused; 'make clean' removes it))
DEPS    := settings.ini setup.py constraints.txt
# two notebooks, then two files of tests, at a time, one thread each: fastest on two cores
WORKERS ?= 2
# of the long campaigns
MINUTES ?= 30

.PHONY: help run test fuzz lint audit notebooks docs bench bench-gpu lab data web clean

help:            ## list these commands
	@sed -nE 's/^([a-z-]+):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

run: data        ## install, fetch MNIST, rebuild the basis and print the results beside the paper's
	$(BIN)/lsd-nb reproduce

data: $(STAMP)-run    ## install, then fetch and verify MNIST
	@echo "environment: $(VENV)$(REUSED)"
	$(BIN)/lsd-nb data

# what `git status` says before and after is the same: no test writes into the tree
test: $(STAMP)-dev data web    ## install the development tools and run every check
	git status --porcelain > $(STAMP)-before 2>/dev/null || true
	$(MAKE) --no-print-directory lint
	OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/nbdev_test --n_workers $(WORKERS) --do_print --timing
	OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup
	{ git status --porcelain 2>/dev/null || true; } | diff $(STAMP)-before - || { echo "the tests changed files of the tree"; exit 1; }

# hostile files, wrong arguments, extreme numbers, ended programs; a short run is among the tests
fuzz: $(STAMP)-dev    ## the long campaigns (MINUTES=30): results/robustness.json
	OMP_NUM_THREADS=1 $(BIN)/python tests/campaigns/campaign.py --minutes $(MINUTES)

lint: $(STAMP)-dev    ## style, format, types, safety: ruff (notebooks too), mypy, bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit -q -c pyproject.toml -r lsd_nb docs

audit: $(STAMP)-dev    ## known vulnerabilities of the pinned versions (asks the advisory databases)
	$(PIP) pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

notebooks: $(STAMP)-dev data    ## export, execute all notebooks in place (slow cells keep their outputs), README
	$(BIN)/nbdev_export
	$(BIN)/python docs/execute.py
	$(BIN)/python docs/readme.py

docs: $(STAMP)-dev data web    ## build the site in _build/html from the committed notebooks; a warning is an error
	$(BIN)/python -m sphinx -W -n --keep-going -q -c docs -d _build/doctrees nbs _build/html
	@echo "the site: _build/html/index.html (the playground wants a server: $(PYTHON) -m http.server --directory _build/html --bind 127.0.0.1)"

# what the playground runs: onnxruntime-web from npm, checked against its sum, and the exported networks
web: $(STAMP)-dev
	OMP_NUM_THREADS=1 $(BIN)/python docs/playground.py

bench: $(STAMP)-dev data    ## time the package against plain loops and scikit-learn, print the table
	$(BIN)/python docs/execute.py 91_benchmarks --slow --show --keep

bench-gpu: $(STAMP)-run data    ## time everything on this machine's GPU, store it under its name; one line where there is none
	$(BIN)/python -c 'from lsd_nb.studies.benchmarks import bench_accelerator; bench_accelerator()'

lab: $(STAMP)-dev data    ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=nbs

clean:           ## remove the environment and everything built (data and trained networks stay in the cache)
	rm -rf $(VENV) build dist _build _docs _proc *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache

$(STAMP)-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "lsd_nb needs Python 3.10 or later: PYTHON=/path/to/python make …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "this Python has no venv module: install it (on Debian: apt install python3-venv)"; exit 1; }
	@echo "environment: making $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(STAMP)-run: $(DEPS) | $(STAMP)-venv
	@echo "installing lsd_nb with the versions of constraints.txt (a few minutes the first time)"
	$(PIP) -e .
	@touch $@

# the hooks keep notebooks clean in git; they only make sense in a clone
$(STAMP)-dev: $(STAMP)-run
	@echo "installing the development tools"
	$(PIP) -e '.[dev,docs]'
	@if [ -d .git ]; then $(BIN)/nbdev_install_hooks || echo "the notebook hooks were not installed: see above"; fi
	@touch $@
