# Everything that development needs. `make` alone lists the targets.
# Needs python3 (3.11 or later, with venv), pip and GNU make; PYTHON= and VENV= choose others.

PYTHON ?= python3
VENV ?= .venv
LOCK_FLAGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test attacks mutants model engines engines-storm soak storm fuzz bench exercise demo format lock clean

help: ## list the targets (the default)
	@sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST))
	@echo "Settings: PYTHON=python3.13 (to make the environment with), VENV=folder (where it goes)"

setup: $(STAMP) ## make the virtual environment (.venv) with everything that the lock file pins

$(STAMP): requirements.lock requirements-tpm.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or later is needed as '$(PYTHON)'; name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "error: '$(PYTHON)' has no venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "setup: the packages of requirements.lock, each checked against its hash (a minute or two)"
	@# The lock file is complete: nothing is left to resolve, and no newer release of a package with extras can come in.
	@$(PIP) install --quiet --no-deps --require-hashes --requirement requirements.lock
	@if pkg-config --exists tss2-esys tss2-fapi 2>/dev/null; then \
	  echo "setup: tpm2-pytss, built against the tpm2-tss that is installed here"; \
	  $(PIP) install --quiet --no-deps --require-hashes --no-build-isolation --requirement requirements-tpm.lock; \
	fi
	@echo "setup: this project, editable"
	@$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .
	@$(PIP) check
	@touch $(STAMP)

test: setup ## run every check: ruff, mypy, pytest with branch coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --cov --cov-report=term

exercise: setup ## write, read and cut off files a million times (a few minutes)
	PMAP_EXERCISER_OPERATIONS=1000000 $(BIN)/pytest tests/pmap/filesystem/test_exerciser.py --timeout=900

attacks: setup ## run every attack and print a table: verdict expected, verdict seen
	PYTHONPATH=tests $(BIN)/python -m attacks.report

engines: setup ## run what concerns stores on shared engines: PostgreSQL, three etcd members, an S3 server
	PMAP_ENGINES=all $(BIN)/pytest tests/engines tests/host_store/test_store_contract.py tests/tee/test_hand_over.py
	PMAP_ENGINES=all $(BIN)/pytest tests/attacks -k "postgresql or etcd or s3"

mutants: setup ## change freshness rules, commit log and decoders, an operator at a time: tests must notice (GROUPS="log mail")
	PYTHONPATH=tests $(BIN)/python -m mutation $(GROUPS)

STEPS ?= 1000000
SOAK_FLAGS = --steps $(STEPS) $(if $(FIRST),--first $(FIRST)) $(if $(SEED),--seed $(SEED))

soak: setup ## a million random moves of honest and malicious hosts, every answer checked (STEPS=..., SEED=... plays one again)
	PYTHONPATH=tests $(BIN)/python -m fuzz.soak $(SOAK_FLAGS)

KILLS ?= 1000

storm: setup ## kill -9 host or enclave a thousand times under load, then at every system call (KILLS=...)
	PYTHONPATH=tests $(BIN)/python -m crash.storm --kills $(KILLS)
	PMAP_EVERY_CALL=1 $(BIN)/pytest tests/crash/test_kill.py -k system_call --timeout=1800

FUZZ_SECONDS ?= 60

fuzz: setup ## coverage-guided fuzzing of every decoder of untrusted bytes, a minute each (FUZZ_SECONDS=..., TARGET=...)
	@$(PIP) install --quiet --no-deps --require-hashes --target $(VENV)/atheris --upgrade --requirement requirements-fuzz.lock \
	  || { echo "error: there is no atheris for this Python and system: make fuzz PYTHON=python3.11 VENV=/tmp/fuzz" >&2; exit 1; }
	PYTHONPATH=tests:$(VENV)/atheris $(BIN)/python -m fuzz.coverage_guided --seconds $(FUZZ_SECONDS) $(if $(TARGET),"$(TARGET)")

FAULTS ?= 1000

engines-storm: setup ## kill hosts and engines and cut the network between them, a thousand times; nothing may be lost (FAULTS=...)
	PYTHONPATH=tests $(BIN)/python -m engines.storm --faults $(FAULTS)

model: setup ## check the formal model, find its mutants wrong, replay traces of the code (needs Java; some minutes)
	PYTHONPATH=tests $(BIN)/python -m formal.report

bench: setup ## measure beside LMDB, SQLCipher, RocksDB and others (long); plots and tables in docs/performance.md
	$(BIN)/python -m benchmarks

demo: setup ## show the whole system at work: load, crash, roll back, get caught
	$(BIN)/pmap demo

format: setup ## lay out the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

EXTRAS := host postgresql etcd s3 client attestation dstack sql fsspec fuse bench model mutation dev
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --no-config --generate-hashes --allow-unsafe \
  --strip-extras --no-emit-options $(LOCK_FLAGS)

# On the oldest supported Python, because that one needs the most packages (backports). The extra "tpm" is apart: it is
# built from source, and not every machine has what for (Debian: libtss2-dev).
lock: setup ## pin pyproject.toml's requirements in requirements.lock (newer ones: LOCK_FLAGS=--upgrade)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "error: make the lock file with Python 3.11: make lock PYTHON=python3.11 VENV=/tmp/lock" >&2; exit 1; }
	$(COMPILE) $(EXTRAS:%=--extra=%) --all-build-deps --output-file=requirements.lock pyproject.toml
	$(COMPILE) --output-file=requirements-tpm.lock requirements-tpm.in
	$(COMPILE) --output-file=requirements-fuzz.lock requirements-fuzz.in

clean: ## remove the virtual environment, caches and reports
	if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
	rm -rf build pmap.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov
	rm -f .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
