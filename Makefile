# make serve     install what is locked into .venv and serve on http://127.0.0.1:5000
# make test      ruff, mypy and the tests that need neither a GPU nor much time
# make help      everything else
#
# CPU=1          takes the build of PyTorch without CUDA: about 0.4 GB to download, not 3 GB
# PYTHON=...     the Python that makes .venv, 3.11 or newer (default: python3)
# ARGS=...       further options of the command that is run

PYTHON ?= python3
UV     ?= uv
VENV   ?= .venv
BIN    := $(VENV)/bin
CPU    ?= $(if $(wildcard $(VENV)/installed-cpu),1)
STAMP  := $(VENV)/installed-$(if $(CPU),cpu,cuda)
OTHER  := $(VENV)/installed-$(if $(CPU),cuda,cpu)

TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# uv, where there is one, installs the same in less time; nothing depends on it.
ifneq ($(shell command -v $(UV) 2>/dev/null),)
CREATE  := $(UV) venv --quiet --allow-existing --python $(PYTHON)
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --only-binary :all:
else
CREATE  := $(PYTHON) -m venv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all:
endif

.DELETE_ON_ERROR:
.PHONY: help install serve test lint types pytest cluster gpu-test all-tests bench format lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## install what is locked, and this project, into .venv

serve: $(STAMP) ## install, then serve on port 5000; other options: ARGS="--port 8080"
	$(BIN)/inference-engine serve $(ARGS)

test: lint types pytest cluster ## what CI runs

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

pytest: $(STAMP) ## the tests that need neither a GPU nor a cluster nor much time
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not gpu and not slow and not cluster" $(ARGS)

cluster: $(STAMP) ## the tests that start a Ray cluster on this machine, three minutes
	$(BIN)/pytest -m "cluster and not slow" tests/test_ray.py $(ARGS)

gpu-test: $(STAMP) ## the tests that need an NVIDIA GPU
	$(BIN)/pytest -m gpu $(ARGS)

all-tests: $(STAMP) ## every test that needs no GPU
	$(BIN)/pytest -m "not gpu" $(ARGS)

bench: $(STAMP) ## every bench, with the peers; 40 minutes on a quiet machine
	$(BIN)/python -m bench.peers install
	$(BIN)/python -m bench.all $(ARGS)

format: $(STAMP) ## ruff: mend what it can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# To move to newer versions: change the date in pyproject.toml, then `make lock`. Needs uv.
LOCK = $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"
WITHOUT_CUDA = /^[a-z]/ { drop = /^(torch|torchvision|triton|cuda-.*|nvidia-.*)==/ && !/^nvidia-ml-py==/ } !drop

lock: ## resolve pyproject.toml anew into the lock files
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) --group dev --constraints requirements.lock --output-file requirements-dev.lock
	$(LOCK) --group ray --constraints requirements.lock --output-file requirements-ray.lock
	awk '$(WITHOUT_CUDA)' requirements.lock > requirements-cpu.lock

clean: ## remove .venv and the caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

# Only wheels whose hash is in a lock file: a machine that a package has no wheel for is told so, instead of compiling
# for an hour. The project itself is built by the locked hatchling. PyTorch's own index gives no hashes to lock, so
# with CPU=1 its two packages are held to their version alone.
$(STAMP): pyproject.toml requirements.lock requirements-cpu.lock requirements-dev.lock
	@test "$$(uname -s)" = Linux || { echo "The engine needs Linux, this is $$(uname -s)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"Python 3.11 or newer is needed, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." \
		"Name another one, for instance: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@if test -e $(OTHER); then rm -rf $(VENV); fi
	@$(CREATE) $(VENV) || { rm -rf $(VENV); echo \
		"$(VENV) could not be made. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV). The first time takes some minutes."
ifneq ($(CPU),)
	$(INSTALL) --no-deps --require-hashes -r requirements-cpu.lock
	$(INSTALL) --no-deps --index-url $(TORCH_CPU_INDEX) $$(grep -oE '^(torch|torchvision)==[0-9.]+' requirements.lock)
else
	$(INSTALL) --no-deps --require-hashes -r requirements.lock
endif
	$(INSTALL) --no-deps --require-hashes -r requirements-dev.lock
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
