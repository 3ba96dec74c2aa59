# make run, make test, make modes, make lint, make format, make bench, make faults, make lock
PYTHON ?= python3
PORT ?= 8000
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL ?= $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test modes lint format bench faults lock

run: $(VENV)/.ready
	$(BIN)/python manage.py runserver $(PORT)

test: $(VENV)/.ready-dev
	PYTHONDEVMODE=1 $(BIN)/python -m pytest $(ARGS)

# The tests of the HTTP contract with each database and each broker.
modes: $(VENV)/.ready-dev
	PYTHONDEVMODE=1 $(BIN)/python -m tests.every_mode $(ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	DATABASE_URL=sqlite:///unused.sqlite3 $(BIN)/mypy  # includes the app for databases
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

# ARGS=--short takes two minutes, all of it a quarter of an hour.
faults: $(VENV)/.ready-dev
	$(BIN)/python -m faults $(ARGS)

# The three files are for every platform and every Python from 3.11 on: the first runs the service, the second tests it
# as well, and the third has everything for development.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--custom-compile-command "make lock" pyproject.toml

lock: $(VENV)/.ready-dev
	$(COMPILE) --output-file requirements-run.txt
	$(COMPILE) --group test --output-file requirements.txt
	$(COMPILE) --group test --group peers --group lint --output-file requirements-dev.txt

$(VENV)/.ready: requirements.txt | $(BIN)/python
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	$(INSTALL) -r requirements-dev.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
