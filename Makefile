# Needs make and Python 3.11 or newer; everything else goes into .venv, from PyPI.
# Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

# Hundreds of processes start in a test run, and none of them should compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo demo-temporal test test-temporal test-observability test-slow test-matrix test-environments test-cancels test-growth check lint model mutants stress stress-temporal torture dashboards bench bench-peers docs site picture pictures page-pictures coverage lock audit-dependencies build clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## Run real tasks on a fresh store and print what became of them
	@$(BIN)/tapescope demo

demo-temporal: $(VENV)/.installed ## Tasks that Temporal brings: a killed worker, a cancel from each side
	@$(BIN)/python examples/temporal/demo.py

test: $(VENV)/.installed ## Run the tests, on SQLite and on a real PostgreSQL 18
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(PYTEST_ARGS)

check: lint test ## Lint, then test; CI runs test-slow and test-observability besides

lint: $(VENV)/.installed ## Style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_GLOBAL_NODE=0 $(BIN)/pyright
	$(BIN)/lint-imports

# What these two run is marked, and pytest leaves it out unless it is asked for (see pyproject.toml).
test-observability: $(VENV)/.installed ## Telemetry from end to end: OTLP, dashboards, alerts, drills; some minutes
	@$(BIN)/python -m pytest -m observability $(PYTEST_ARGS)

test-slow: $(VENV)/.installed ## What is heavy by its nature: floods of output, command lines on PostgreSQL
	@$(BIN)/python -m pytest -m "slow and not observability" $(PYTEST_ARGS)

test-matrix: $(VENV)/.installed ## Signals x commands x shells, with tapescope run and without; some minutes
	@$(BIN)/python -m pytest -m matrix $(PYTEST_ARGS)

test-environments: $(VENV)/.installed ## tapescope run in 2,000 random environments; some minutes
	@$(BIN)/python -m pytest -m environments -s $(PYTEST_ARGS)

test-cancels: $(VENV)/.installed ## A cancel, and what else may come, at every step of every task; an hour or two
	@$(BIN)/python -m pytest -m cancels -s $(PYTEST_ARGS)

test-temporal: $(VENV)/.installed ## The engine on Temporal, with a real server and real kills; some minutes
	@$(BIN)/python -m pytest -m temporal -n 0 $(PYTEST_ARGS)

stress-temporal: $(VENV)/.installed ## Tasks that Temporal brings, through kills, cancels and outages by a seed (STRESS_ARGS=--help)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m tests.temporal.stress $(STRESS_ARGS)

test-growth: $(VENV)/.installed ## The work of every statement in stores of 1,000,000 tasks, as a table; some minutes
	@$(BIN)/python -m pytest -m growth -s $(PYTEST_ARGS)

model: $(VENV)/.installed ## Walk through every state of the model of a task's life, with spin
	@$(BIN)/python -m pytest -m slow -s tests/proof $(PYTEST_ARGS)

mutants: $(VENV)/.installed ## Remove each guard in turn: a test must notice (MUTANTS_ARGS=--help shows its settings)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m tests.mutants $(MUTANTS_ARGS)

stress: $(VENV)/.installed ## The long run of the stress harness (STRESS_ARGS=--help shows its settings)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python tests/stress/run.py $(STRESS_ARGS)

torture: $(VENV)/.installed ## Kills, restarts, lost replies and stress, one table; N=10 is ten times as long (TORTURE_ARGS=--help)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m tests.torture --n $(or $(N),1) $(TORTURE_ARGS)

dashboards: $(VENV)/.installed ## Write the dashboards, rules and configuration anew
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m dashboards.build $(DASHBOARDS_ARGS)

bench: $(VENV)/.installed ## Measure the stores and the manager (BENCH_ARGS=--help shows its settings)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python bench/run.py $(BENCH_ARGS)

bench-peers: $(VENV)/.installed ## Measure other task systems beside ours, from PyPI (PEERS_ARGS=--help shows its settings)
	@PYTHONPATH="$(CURDIR)" $(BIN)/python bench/race.py $(PEERS_ARGS)

docs: $(VENV)/.installed ## Make the reference pages from the code, and the schemas from the migrations
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/build.py
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/openapi.py
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/screens.py
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/schema.py

site: $(VENV)/.installed ## Build the site of all pages into build/site, with the Python API from its docstrings
	@$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --builder html --conf-dir docs/site \
	  --doctree-dir build/site-pages . build/site
	@echo "Open build/site/index.html"

picture: $(VENV)/.installed ## Draw the picture of a drill anew, from a real Prometheus; some minutes
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/picture.py

pictures: $(VENV)/.installed ## Draw the boards with Grafana's own components, under load; some minutes, needs chromium
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/pictures.py $(PICTURES_ARGS)

page-pictures: $(VENV)/.installed ## Draw the page for browsers on a demo's tasks; two minutes, needs chromium
	@PYTHONPATH="$(CURDIR)" $(BIN)/python docs/page.py $(PAGE_ARGS)

coverage: $(VENV)/.installed ## Run the tests and print which lines they leave out
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage report --skip-covered --show-missing

LOCKING := pip compile --quiet --universal --upgrade --python-version 3.11 --generate-hashes \
  --custom-compile-command 'make lock' pyproject.toml --extra all

lock: ## Resolve anew, with hashes, what a release is made with and what development and CI install
	@$(BIN)/uv $(LOCKING) --output-file requirements.lock
	@$(BIN)/uv $(LOCKING) --group dev --constraint requirements.lock --output-file requirements-dev.lock

audit-dependencies: $(VENV)/.installed ## Ask whether what the lock names has known vulnerabilities
	@$(BIN)/python .ci/audit_dependencies.py

build: $(VENV)/.installed ## Build a release into dist/: wheel, sdist, what it is made with (SBOM), checksums
	rm -rf dist build/released
	@$(BIN)/python -m build --no-isolation --outdir dist >/dev/null
	@$(BIN)/python -m venv --without-pip build/released
	@$(BIN)/python -m pip --python build/released/bin/python --disable-pip-version-check -qq \
	  install --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip --python build/released/bin/python --disable-pip-version-check -qq \
	  install --no-deps dist/*.whl
	@$(MAKE) --no-print-directory LISTED=build/released/bin/python $(LIST)
	@cd dist && sha256sum * > SHA256SUMS && cat SHA256SUMS

# The list reads the version from the project's own file, where it is dynamic: from a copy that has it.
LISTED := $(BIN)/python
LIST := dist/tapescope.cdx.json
$(LIST): pyproject.toml telemetry/tapescope_telemetry/_version.py
	@mkdir -p $(@D)
	@version=$$($(BIN)/python -c 'from tapescope_telemetry import __version__; print(__version__)') && \
	  sed "s/^dynamic = \[\"version\"\]/version = \"$$version\"/" pyproject.toml > $@.toml
	@$(BIN)/cyclonedx-py environment $(LISTED) --pyproject $@.toml --output-reproducible --output-file $@
	@rm $@.toml

clean: ## Remove the virtual environment, builds and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A half-made environment is made anew: the stamp comes last.
$(VENV)/.installed: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "tapescope needs Python 3.11 or newer as '$(PYTHON)'; name another with: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; a minute or two)" >&2
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
