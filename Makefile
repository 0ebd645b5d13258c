# Everything runs from .venv, which is set up once; an interrupted set-up starts over.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
# One process per core, each with one thread; all tests of a file stay in one process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
PYTEST_FLAGS ?=
MAKEFLAGS += --no-print-directory

# Where `make results` keeps its sweeps; docs/results.md is written from them.
RESULTS ?= runs/results
BUDGETS := --sweep privacy.target_epsilon=8,3,1
SECTIONS := without-privacy beside-central by-budget last-fifth who-pays

# Processes at a time of `make audit-validity`.
AUDIT_JOBS ?= 2

# Campaigns of `make chaos`; those on record are not run again.
CHAOS_SEEDS ?= 0-11

# Different inputs that `make fuzz` gives to all doors together; fewer are a failure.
FUZZ_INPUTS ?= 10000

.PHONY: audit-validity chaos demo flwr fuzz results setup data test test-all test-gpu lint format clean

demo: data  ## Set up, fetch the data, train the demo federation, write its report.
	$(BIN)/fedrec simulate demo

setup: $(READY)

data: $(READY)
	$(BIN)/fedrec data fetch movielens-100k

flwr: data  ## The demo federation by `flwr run .`, on a SuperLink that ends with the run.
	rm -rf sites
	$(BIN)/fedrec data partition demo --out sites
	$(BIN)/python -m simulations.engines.flwr_run \
		--run-config "data.sites_folder='$(CURDIR)/sites'" \
		--federation-config "num-supernodes=10 client-resources-num-cpus=1"

results: data  ## Run the sweeps behind docs/results.md, or what is left of them, and write that page.
	$(BIN)/fedrec simulate federated --set evaluation.companions= --seeds 15 --run ./$(RESULTS)/without-privacy
	$(BIN)/fedrec simulate federated --set evaluation.companions=central --seeds 3 --run ./$(RESULTS)/beside-central
	$(BIN)/fedrec simulate distributed --set evaluation.companions= $(BUDGETS) --seeds 10 --run ./$(RESULTS)/by-budget
	$(BIN)/fedrec simulate distributed --set evaluation.companions= --set data.split=last_fifth $(BUDGETS) \
		--seeds 10 --run ./$(RESULTS)/last-fifth
	$(BIN)/fedrec simulate distributed --set evaluation.companions= --set data.split=last_fifth $(BUDGETS),inf \
		--seeds 3 --run ./$(RESULTS)/who-pays
	$(BIN)/python -m simulations.results_page $(addprefix $(RESULTS)/,$(SECTIONS))

audit-validity: $(READY)  ## How often the audit's gates fail correct runs; written to docs/audit.
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.audit_validity --jobs $(AUDIT_JOBS)

chaos: $(READY)  ## Random kills, cuts and slow links over real deployments; written to docs/chaos.md.
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --seeds $(CHAOS_SEEDS) --write docs/chaos.md

test: $(READY)  ## The quick tests.
	$(PYTEST) -m "not slow and not statistical and not e2e and not gpu" $(PYTEST_FLAGS)

test-all: $(READY)  ## All tests that need no GPU; an unexpected skip is a failure.
	$(MAKE) test PYTEST_FLAGS="--no-skips $(PYTEST_FLAGS)"
	$(PYTEST) -m "(slow or statistical or e2e) and not gpu" --no-skips $(PYTEST_FLAGS)

fuzz: $(READY)  ## FUZZ_INPUTS hostile inputs at every door where bytes of others come in; a table at the end.
	OMP_NUM_THREADS=1 FEDREC_FUZZ_INPUTS=$(FUZZ_INPUTS) $(BIN)/python -m pytest -n0 -q tests/fuzzing

test-gpu: $(READY)  ## The tests that need a CUDA device.
	$(BIN)/python -m pytest -m gpu --no-skips $(PYTEST_FLAGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m common.flower_config
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what setting up and tools made; runs stay.
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp exists only after a whole set-up: without it the environment is made anew, with
# an old one it is brought up to date.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"error: Python 3.11 or newer is needed; set it with make PYTHON=...")'
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@echo "setting up .venv; this takes a few minutes, once"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet \
		-c constraints.txt -e '.[dev]'
	@touch $@
