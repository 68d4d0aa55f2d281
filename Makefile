# Two commands on a machine with Python 3.11+ and make: `make demo`, `make test`. Both build .venv first where there is none.
PYTHON ?= python3
BIN := .venv/bin
# The environment is current when this stamp, named after the lock's content, exists.
STAMP := .venv/installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: demo test test-slow check format clean
.DEFAULT_GOAL := demo

demo: $(STAMP)
	$(BIN)/improve demo

test: $(STAMP)
	$(BIN)/pytest -m "not slow"

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "IMPROVE needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "Creating .venv: about 3 GB to download and 6 GB on disk (PyTorch with CUDA; it runs on a CPU too). Nothing is installed outside this folder."
	@$(PYTHON) -m venv .venv || { echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install python3-venv first."; exit 2; }
	@echo "[1/3] the installer (uv) ..."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@echo "[2/3] the packages of requirements.lock (one to five minutes) ..."
	@UV_CACHE_DIR=$(CURDIR)/.venv/cache $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@echo "[3/3] the improve command ..."
	@UV_CACHE_DIR=$(CURDIR)/.venv/cache $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@rm -rf .venv/cache .venv/uv.lock .venv/installed-*
	@touch $(STAMP)
	@echo "Ready."
