# quickstart, test and lint set up what they need. docs/install.md has the same commands without
# make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Huge pages for XLA's temporaries make a training step on a CPU about a fifth shorter (Linux).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: quickstart test test-quick test-lowest lint docs bench

quickstart: $(VENV)/installed
	$(BIN)/python -m experiments.run --config=experiments/configs/dark_room.py:quickstart --workdir=runs/quickstart

test: $(VENV)/installed
	$(BIN)/python -m pytest

# The fast tests, to run between edits.
test-quick: $(VENV)/installed
	$(BIN)/python -m pytest -m 'not slow'

# The fast tests with the oldest versions that setup.py allows.
test-lowest: .venv-lowest/installed
	.venv-lowest/bin/python -m pytest -m 'not slow'

.venv-lowest/installed: setup.py
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install --quiet --python=.venv-lowest/bin/python --resolution=lowest-direct -e '.[test]'
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run experiments/launch/*.sh experiments/launch/*.sbatch

docs: $(VENV)/installed
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . docs/_build
	@echo docs/_build/index.html

bench: $(VENV)/installed .venv-rejax/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.run

# A peer in the benchmarks that needs an older gymnax.
.venv-rejax/installed:
	$(PYTHON) -m venv .venv-rejax
	.venv-rejax/bin/python -m pip install --quiet rejax==0.1.3 gymnax==0.0.9 jax==0.10.2
	touch $@

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": give another one as make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@
