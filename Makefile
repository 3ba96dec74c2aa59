# make run, make test, make lint, make format, make bench, make faults, make lock
PYTHON ?= python3
PORT ?= 8000
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test lint format bench faults lock

run: $(VENV)/.ready
	$(BIN)/python manage.py runserver $(PORT)

test: $(VENV)/.ready-dev
	PYTHONDEVMODE=1 $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	DATABASE_URL=sqlite:///unused.sqlite3 $(BIN)/mypy  # with the app that only a database needs
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks

faults: $(VENV)/.ready
	$(BIN)/python -m faults $(ARGS)

# Both files hold for every platform and every Python from 3.11 on.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--custom-compile-command "make lock" pyproject.toml

lock: $(VENV)/.ready-dev
	$(COMPILE) --group test --output-file requirements.txt
	$(COMPILE) --group test --group peers --group lint --output-file requirements-dev.txt

$(VENV)/.ready: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
