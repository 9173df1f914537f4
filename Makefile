# make run: start everything on this machine and learn. make test: run the tests. Both set up .venv first where needed.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
STAMP := .venv/.installed

.PHONY: help install run test check docs bench examples clean
.DEFAULT_GOAL := help

help:
	@echo "make run      start everything on this machine and learn from ray_config.yaml (ARGS=\"--once --report out\")"
	@echo "make test     run the tests (ARGS=\"-k config\")"
	@echo "make check    lint and type-check"
	@echo "make install  only set up .venv"
	@echo "make docs     write docs/configuration.md anew from the code"
	@echo "make example-fraud   an application on its own stream, beside a frozen model; also -recommendation, -chatbot, -sensors"
	@echo "make examples all four, a minute or two each"
	@echo "make bench    rows per second, beside a plain torch loop"
	@echo "make clean    remove caches and build output; .venv and storage stay"

install: $(STAMP)

# The packages' __init__ files are named because an editable install knows only the packages it was made with.
$(STAMP): pyproject.toml constraints.txt $(wildcard actors/__init__.py serve/__init__.py cluster/__init__.py)
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) on the PATH: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), wanted Python 3.11 or newer: name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv; the first time this takes some minutes."
	$(PIP) torch==2.13.0
	$(PIP) -e ".[dev]"
	@touch $@

run: install
	$(BIN)/perennial run $(ARGS)

test: install
	$(BIN)/python -m pytest $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	$(BIN)/python -m cluster.config_text > docs/configuration.md

bench: install
	$(BIN)/python benchmarks/throughput.py $(ARGS)

example-%: install
	$(BIN)/python -m examples.$* $(ARGS)

examples: example-fraud example-recommendation example-chatbot example-sensors

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
