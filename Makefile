# Entry points. `make demo` and `make test` need python3 (3.11 or newer) and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test sweep check bench golden site wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.user ## set up, then take an example model from ONNX to verified firmware
	$(BIN)/thumbnet run examples/digits/digits.onnx --data examples/digits/digits.npz

test: $(VENV)/.dev ## set up, then run the tests
	$(BIN)/python -m pytest -q -n auto -m "not sweep"

sweep: $(VENV)/.dev ## run the long sweeps that `make test` leaves out
	$(BIN)/python -m pytest -q -n auto -m sweep

check: $(VENV)/.dev ## lint, format and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev ## measure the reference models and single kernels; writes benchmarks/results/
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.kernels

golden: $(VENV)/.dev ## rewrite the reviewed C of tests/golden/; then read the diff
	$(BIN)/python -m tests.golden.rewrite
	git --no-pager diff --stat -- tests/golden

site: $(VENV)/.dev ## build the documents into build/site; any warning is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[site]"
	$(BIN)/mkdocs build --quiet --strict --site-dir build/site

wheel: $(VENV)/.dev ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove the virtual environment and build results
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "thumbnet needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "python3 cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.user: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.user
