# Every target sets up what it needs: a fresh clone and Python 3.11 or newer are enough.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
SECONDS_ARG := $(if $(filter command,$(firstword $(origin SECONDS))),$(SECONDS),)

.PHONY: setup demo test check format chaos native bench deploy lock clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^## //p' Makefile

## make demo [SECONDS=60]  the whole pipeline on generated traffic, with a live view; with SECONDS: stop, verify, tally
demo: $(VENV)/.ready
	$(BIN)/python -m local demo $(if $(SECONDS_ARG),--seconds $(SECONDS_ARG),)

## make test               all checks and all tests
# Two workers, a stack for each: most tests wait for something. A file stays with one worker, since its tests share a scene.
test: check
	@$(BIN)/python -m tests.ops.prometheus
	@$(BIN)/python -m tests.browser.chromium
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

## make chaos              the long tests: faults at random, for minutes
chaos: $(VENV)/.ready
	$(BIN)/python -m pytest -m chaos

## make check              format, lint, types, import rules, the CloudFormation template
check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint infra/template.yaml

## make format             format and sort imports
format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

## make native             compile the hot modules: build/native/lib holds all packages, ready to run
native: $(VENV)/.ready
	@command -v cc > /dev/null || { echo "no C compiler here (Debian: apt-get install gcc): the services run as plain Python"; exit 2; }
	rm -rf build/native
	NATIVE=build/native $(BIN)/python setup.py -q build
	cp -r infra build/native/lib # the embedded stack reads its template

# The compiled build, as images run it; plain Python where there is no compiler.
bench: BENCH = $(if $(shell command -v cc),PYTHONPATH=build/native/lib:. $(BIN)/python -P,$(BIN)/python) -m bench
## make bench              measure streamer, processor and syncer, compiled and as plain Python; JSON in .local/bench
bench: $(VENV)/.ready $(VENV)/peer/.ready
	@mkdir -p .local/bench
	@$(MAKE) --no-print-directory native || true
	$(BENCH) streamer > .local/bench/streamer.json
	$(BENCH) processor > .local/bench/processor.json
	$(BENCH) syncer > .local/bench/syncer.json
	$(BIN)/python -m bench streamer --no-latency > .local/bench/streamer-plain.json
	$(BIN)/python -m bench privacy > .local/bench/privacy-plain.json
	@cat .local/bench/*.json

## make deploy [DRY_RUN=1]  AWS and a cluster, by the variables that docs/operations.md lists
deploy: $(VENV)/.ready
	$(BIN)/python -m infra.deploy $(if $(DRY_RUN),--dry-run)

## make lock               renew requirements/*.txt (hashes, no index address)
lock: $(VENV)/.ready
	env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --no-header -o requirements/base.txt pyproject.toml
	env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --no-header --extra local --extra dev -c requirements/base.txt -o requirements/dev.txt pyproject.toml
	env -u PIP_FIND_LINKS $(BIN)/pip-compile -q --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe --no-header -o requirements/bench.txt requirements/bench.in

## make clean              remove what the targets made
clean:
	rm -rf $(VENV) .local build *.egg-info

setup: $(VENV)/.ready

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# The library that the processor is compared with wants older packages than ours: an environment of its own.
$(VENV)/peer/.ready: requirements/bench.txt $(VENV)/.ready
	$(PYTHON) -m venv $(VENV)/peer
	$(VENV)/peer/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
