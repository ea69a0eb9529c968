# Two commands: `make run` serves the app, `make test` runs the tests. Both set up what they need in .venv.

PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement

.PHONY: run test check bench accuracy published format lock clean

run: $(VENV)/.run
	$(BIN)/gunicorn --bind 127.0.0.1:$(PORT) --workers 2 --threads 8 --limit-request-line 8190 --no-control-socket 'app:create_app()'

test: $(VENV)/.dev
	$(BIN)/pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench.bench_scan
	$(BIN)/python -m tests.bench.bench_request
	$(BIN)/python -m tests.bench.bench_hub
	$(BIN)/python -m tests.bench.bench_survey

accuracy: $(VENV)/.dev
	$(BIN)/python -m tests.accuracy

published: $(VENV)/.dev
	$(BIN)/python -m tests.published.page

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Rewrites the lock files from pyproject.toml, with the newest versions that it allows.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-header pyproject.toml --group dev --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.run: requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) requirements.lock
	touch $@

$(VENV)/.dev: requirements-dev.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) requirements-dev.lock
	touch $@
