# Two commands on a machine with Python 3.11+ and make: `make demo`, `make test`. Both build .venv first where there is none.
PYTHON ?= python3
BIN := .venv/bin
# Whose PyTorch: that of the lock (default), or that of one of PyTorch's own indexes: cu128 or cu126 for older drivers and cards, cpu (docs/gpu.md).
TORCH ?= $(or $(shell cat .venv/torch 2>/dev/null),default)
# The environment is current when this stamp, named after what it was made of, exists.
STAMP := .venv/installed-$(shell { cat requirements.lock pyproject.toml; echo $(TORCH); } | cksum | cut -d' ' -f1)
UV := UV_CACHE_DIR=$(CURDIR)/.venv/cache $(BIN)/uv

.PHONY: demo test test-slow check format clean
.DEFAULT_GOAL := demo

demo: $(STAMP)
	$(BIN)/improve demo

test: $(STAMP)
	$(BIN)/pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/pytest -m slow -n 2 --dist loadfile

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
	@case "$(TORCH)" in default|cpu|cu[0-9][0-9][0-9]) ;; \
	  *) echo "TORCH=$(TORCH): expected default, cpu, or an index of PyTorch such as cu128 (docs/gpu.md)."; exit 2;; esac
ifeq ($(TORCH),default)
	@echo "Creating .venv: about 3 GB to download and 6 GB on disk (PyTorch with CUDA; it runs on a CPU too). Nothing is installed outside this folder."
	@need=$$(sed -n 's/^cuda-toolkit==\([0-9]*\).*/\1/p' requirements.lock); \
	  has=$$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA \(UMD \)\{0,1\}Version: *\([0-9]*\).*/\2/p'); \
	  [ "$${has:-$$need}" -ge "$$need" ] || echo "The NVIDIA driver here supports CUDA $$has, and this PyTorch needs CUDA $$need, so trainings" \
	    "would run on the CPU: update the driver, or press Ctrl-C and type: make TORCH=$$([ $$has -lt 12 ] && echo cpu || echo cu128) $(MAKECMDGOALS)"
else
	@echo "Creating .venv with PyTorch from https://download.pytorch.org/whl/$(TORCH). Nothing is installed outside this folder."
endif
	@$(PYTHON) -m venv .venv || { echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install python3-venv first."; exit 2; }
	@echo "[1/3] the installer (uv) ..."
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@echo "[2/3] the packages of requirements.lock (one to five minutes) ..."
ifeq ($(TORCH),default)
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
else
	@awk '/^[^ #]/ {theirs = /^(torch|torchvision|triton|cuda-|nvidia-)/ && !/^nvidia-ml-py=/} !theirs' requirements.lock > .venv/uv.lock
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes .venv/uv.lock
	@$(UV) pip install --quiet --python $(BIN)/python --index https://download.pytorch.org/whl/$(TORCH) "torch>=2.10" "torchvision>=0.25"
endif
	@echo "[3/3] the improve command ..."
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@rm -rf .venv/cache .venv/uv.lock .venv/installed-*
	@echo $(TORCH) > .venv/torch
	@touch $(STAMP)
	@echo "Ready."
