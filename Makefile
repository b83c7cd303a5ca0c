# Everything starts here: `make demo`, then `make test`. Other targets: `make help`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/pip --disable-pip-version-check
QUIET := -qq --progress-bar off

# one thread per process: two test workers on two cores
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test verify lint bench docs clean

help:  ## Show this list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

install: $(STAMP)  ## Make .venv with pinned packages and this package, editable.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "habitue needs Python 3.11 or newer; found `$(PYTHON) --version`"; \
	    echo "hint: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned packages into $(VENV) (the first time takes some minutes) ..."
	@$(PIP) install $(QUIET) -c constraints.txt setuptools
	@$(PIP) install $(QUIET) -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(STAMP)
	@echo "Installed."

demo: install  ## Import a real shop, train, compare, and write the report.
	@$(BIN)/habitue demo

lint: install  ## Style, types and layers.
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## Lint, then every test that is short and needs nothing.
	$(THREADS) $(BIN)/pytest -q -n $(WORKERS) --dist loadfile

verify: lint  ## The long runs: slow tests too, and many more examples of every property.
	$(THREADS) $(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m "not gpu" \
	  --hypothesis-profile=verify
	$(THREADS) $(BIN)/python -m benchmarks.audiences_equality --seeds 12 \
	  --results build/audiences_equality.csv
	$(THREADS) $(BIN)/python -m benchmarks.mixed_load --minutes 10 --results build/mixed_load.csv

bench: install  ## Run the benchmarks; with DATA=folder also those on public data sets.
	$(BIN)/python -m benchmarks.import_speed
	$(BIN)/python -m benchmarks.training_speed
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.log_speed
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.identity
	$(BIN)/python -m benchmarks.audiences_live
	$(BIN)/python -m benchmarks.lake_layout
	@if [ -n "$(DATA)" ]; then set -x; \
	  $(BIN)/python -m benchmarks.classical --data $(DATA)/cdnow_sample.parquet; \
	  $(BIN)/python -m benchmarks.lifetime_value --data $(DATA)/cdnow_sample.parquet \
	    --data $(DATA)/grocery_elog.parquet --data $(DATA)/online_retail_ii.parquet; \
	  $(BIN)/python -m benchmarks.lifetime_hindsight --data $(DATA)/cdnow_sample.parquet; \
	  $(BIN)/python -m benchmarks.next_basket --data $(DATA)/tafeng_baskets.parquet; \
	  $(BIN)/python -m benchmarks.next_item --data $(DATA)/beauty_sequences.parquet \
	    --data $(DATA)/sports_and_outdoors_sequences.parquet \
	    --data $(DATA)/ml1m_sasrec_sequences.parquet --data $(DATA)/diginetica_sessions.parquet \
	    --data $(DATA)/retailrocket_sessions.parquet; \
	  $(BIN)/python -m benchmarks.probes --data $(DATA)/online_retail_ii.parquet; \
	  $(BIN)/python -m benchmarks.cold_items --data $(DATA)/beauty_sequences.parquet \
	    --data $(DATA)/sports_and_outdoors_sequences.parquet; \
	else echo "hint: make bench DATA=FOLDER adds those on public data sets"; fi

docs: install  ## Write the generated pages of docs/reference/ again.
	$(BIN)/python docs/generate.py
	$(BIN)/python -m benchmarks.page

clean:  ## Remove caches, builds and the environment; workspaces stay.
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	  .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
