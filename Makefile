# `sudo make demo` and `sudo make test` do everything by themselves; see README.md.
VENV := .venv
PYTHON := $(VENV)/bin/python
# As root, lint runs as the owner of the clone, so that its caches stay theirs.
AS_OWNER := $(shell [ `id -u` = 0 ] && [ `stat -c %u .` != 0 ] && \
	echo setpriv --reuid `stat -c %u .` --regid `stat -c %g .` --clear-groups)

.PHONY: help need-root setup demo demo-down test test-fast test-kernels lint bench lock

help: ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Debian packages and .venv (fast if they are there)
	@deploy/setup.sh

demo: need-root setup ## Show a whole mesh on this machine (needs root)
	@$(PYTHON) -m lab.demo

demo-down: need-root setup ## Remove every trace of the demo (needs root)
	@$(PYTHON) -m lab down --name demo

need-root:
	@[ `id -u` = 0 ] || { echo "this needs root; run: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

test: need-root lint ## Everything: lint and all tests (needs root)
	$(PYTHON) -m pytest -p no:cacheprovider

test-fast: setup ## What needs no root, in less than a minute
	@echo "tests that need root or a real Envoy are left out; sudo make test runs them too"
	$(PYTHON) -m pytest -p no:cacheprovider -m "not root and not envoy"

test-kernels: need-root ## Other kernels, under emulation: half an hour (needs root)
	@deploy/setup.sh kernels
	$(PYTHON) -m pytest -p no:cacheprovider -m kernels tests/kernels

lint: setup ## Format, style, types, and who imports whom
	$(AS_OWNER) $(VENV)/bin/ruff format --check .
	$(AS_OWNER) $(VENV)/bin/ruff check .
	$(AS_OWNER) $(VENV)/bin/mypy
	$(AS_OWNER) $(VENV)/bin/lint-imports

bench: need-root setup ## Paired measurements, printed as ratios (needs root)
	@$(PYTHON) -m bench

lock: ## Pin every dependency anew (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv; see docs.astral.sh/uv" >&2; exit 1; }
	@# setuptools builds the editable install; the rest stands in pyproject.toml
	echo 'setuptools>=77' | uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--all-extras --generate-hashes --no-annotate --custom-compile-command 'make lock' \
		--output-file requirements.lock pyproject.toml -
