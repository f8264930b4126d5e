# make run    the first answer: installs what it needs, starts the service, asks the starter model
# make test   every test, as CI runs them; what is skipped is told at the end
# make check  lint, types and every test: what must pass before a commit lands on main
# make fast   the tests that start no process or server and need no torch
# make bench  the measurements, as Markdown tables; what is compared with gets an environment of its own, .venv-peers
# make docs   what is made from the code: pages under docs/, and what `pantry --help` lists
# make test-tools   the programs that some tests need: a browser, its driver, a sandbox (apt, as root)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
PROMPT ?= Tell me a story about a fox.

TEST_TOOLS := chromium chromium-driver bubblewrap xdg-utils
TEST_OPTIONS ?=

.PHONY: run test test-tools check fast lint types docs bench clean

run: $(VENV)/.base
	@$(BIN)/pantry run starter "$(PROMPT)"
	@$(BIN)/python -m pantry.cli._next_steps $(BIN)/pantry

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TEST_OPTIONS)

test-tools:
	@if command -v chromedriver && command -v bwrap && command -v xdg-mime; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(TEST_TOOLS); \
	else echo "On Debian, run as root: apt-get install $(TEST_TOOLS)"; exit 1; fi

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not heavy" -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test

docs: $(VENV)/.dev
	$(BIN)/python -m docs.generate

bench: $(VENV)/.dev
	$(BIN)/python -m bench

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Pantry needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Install venv first: apt install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.base: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing Pantry into $(VENV) (once, about a minute) ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[train,dev,keyring,cards,onnx]'
	@touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) .venv-peers build dist
