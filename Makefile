# Each target creates the virtual environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt
# One process per core, each with one torch thread; files stay whole where possible, so that their fixtures are shared.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal --durations 10

.PHONY: demo test test-all test-browser test-matrix check format hooks docs release benchmarks clean

demo: $(VENV)/.installed
	$(BIN)/penna demo

test: $(VENV)/.installed-dev
	$(PYTEST)

test-all: $(VENV)/.installed-dev
	$(PYTEST) -m "not browser"

# The studio in Debian's Chromium; PENNA_CHROMIUM names another one.
test-browser: $(VENV)/.installed-dev
	test -n "$$PENNA_CHROMIUM" || test -x /usr/bin/chromium || { apt-get update -qq; apt-get install -y -qq chromium; }
	$(BIN)/python -m pytest -m browser --durations 10 tests/browser

# The tests on each supported Python that is installed as python3.X.
test-matrix:
	for version in 3.11 3.12 3.13; do \
		command -v python$$version >/dev/null || { echo "python$$version is not installed"; exit 1; }; \
		$(MAKE) test PYTHON=python$$version VENV=.venv-$$version || exit 1; \
	done

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest tests/test_import_direction.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(VENV)/.installed-dev
	$(BIN)/pre-commit install

# Builds site/; a broken link or a name that does not exist is an error.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python -m pytest tests/test_docs.py

# Builds dist/, then installs the wheel in a new environment and trains with it.
release: $(VENV)/.installed-dev
	rm -rf dist build/release
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv build/release
	build/release/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build/release && bin/penna demo --train.steps 5 --overwrite

benchmarks: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/train_throughput.py

$(VENV)/.installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] else "Penna needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Choose another one: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-3.* build dist site .pytest_cache .ruff_cache src/*.egg-info
