# `make demo` and `make test` set everything up on a bare machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# compiled kernels are kept inside the checkout
export TORCHINDUCTOR_CACHE_DIR ?= $(CURDIR)/.cache/inductor

.PHONY: demo test lint notebooks bench clean

demo: $(VENV)/.installed
	$(BIN)/neuroprobe run protocols/quickstart.yaml -o results/quickstart.zarr --overwrite
	$(BIN)/neuroprobe report results/quickstart.zarr -o results/quickstart.html
	$(BIN)/neuroprobe status results/quickstart.zarr

test: lint
	$(BIN)/python -m pytest -n 2 --maxfail 6

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(VENV)/.installed
	NEUROPROBE_NOTEBOOKS=whole $(BIN)/python -m pytest tests/test_notebooks.py

bench: $(VENV)/.installed
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neuroprobe needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .cache results build *.egg-info
