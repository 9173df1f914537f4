# make run: start everything on this machine and learn. make test: run the tests. Both set up .venv first where needed.
# make peers: what benchmarks/accuracy.py compares with, in .venv-peers.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
STAMP := .venv/.installed
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

.PHONY: help install run test check docs bench peers examples clean
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
	@echo "make peers    set up .venv-peers: River, MOA (CapyMOA, needs Java 17) and Vowpal Wabbit, for benchmarks/accuracy.py"
	@echo "make clean    remove caches and build output; .venv, .venv-peers and storage stay"

install: $(STAMP)

# The packages' __init__ files are named because an editable install knows only the packages it was made with.
$(STAMP): pyproject.toml constraints.txt $(wildcard actors/__init__.py serve/__init__.py cluster/__init__.py)
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) on the PATH: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), wanted Python 3.11 or newer: name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Setting up .venv; the first time this takes some minutes."
	$(PIP) torch==2.13.0
	$(PIP) -e ".[dev]"
	$(BIN)/python -m actors.learning.models.ensemble.compiled
	@touch $@

run: install
	$(BIN)/perennial run $(ARGS)

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	$(BIN)/python -m cluster.config_text > docs/configuration.md

bench: install
	$(BIN)/python benchmarks/throughput.py $(ARGS)

# torch comes first: CapyMOA asks for it without a version. Without Java all but MOA's methods run.
peers: $(PEERS_STAMP)
	@command -v java >/dev/null || { echo "make: River and Vowpal Wabbit are ready, MOA is not, for there is no java on the PATH: install Java 17 or newer (Debian: apt-get install default-jre-headless)" >&2; exit 1; }
	@major=$$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'); test "$${major:-0}" -ge 17 || { echo "make: River and Vowpal Wabbit are ready, MOA is not, for $$(command -v java) is Java $${major:-of an unknown version}: install Java 17 or newer (Debian: apt-get install default-jre-headless)" >&2; exit 1; }
	@$(PEERS)/bin/python -c 'import capymoa.classifier, river, vowpalwabbit' || { echo "make: a peer in $(PEERS) cannot be imported, see above: remove $(PEERS) and run make peers again" >&2; exit 1; }
	@echo "The peers are ready in $(PEERS): $(BIN)/python benchmarks/accuracy.py"

$(PEERS_STAMP): benchmarks/peers/requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) on the PATH: install Python 3.11 or newer, or name it: make peers PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo "Setting up $(PEERS); the first time this takes some minutes."
	$(PEERS)/bin/python -m pip install --disable-pip-version-check torch==2.13.0
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -r $<
	@touch $@

example-%: install
	$(BIN)/python -m examples.$* $(ARGS)

examples: example-fraud example-recommendation example-chatbot example-sensors

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*/*' -prune -exec rm -rf {} +
