# Two commands do everything, each with its own set-up: `make demo` and `make test`.
# Debian's python3 has venv without ensurepip until python3-venv is installed, so both are asked for.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	command -v $$p >/dev/null 2>&1 \
	&& $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
WHEEL_VENV := .venv-wheel
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Folders too, so that a deleted file rebuilds the wheel.
SOURCES := $(shell find sisy_redis lua -not -path '*__pycache__*') pyproject.toml README.md LICENSE
CODE := $(wildcard sisy_redis tests examples benchmarks)

.PHONY: demo test bench mutants chaos recovery lint types layers suite clean

demo: $(VENV)/.runtime
	$(VENV)/bin/python -m sisy_redis demo

test: lint types layers suite

# Takes each guard away, one at a time, and sees a test fail for it; takes a while.
mutants: $(VENV)/.tools
	$(VENV)/bin/python -m tests.mutants

# Longer with SECONDS=3600, again with SEED=1234.
chaos: $(VENV)/.tools
	SISY_TEST_CHAOS_SECONDS=$(or $(SECONDS),70) SISY_TEST_CHAOS_SEED=$(SEED) $(VENV)/bin/python -m pytest tests/chaos

# Measures how long the fleet takes to go on after a fault: about five minutes.
recovery: $(VENV)/.tools
	PYTHONPATH=tests $(VENV)/bin/python tests/chaos/recovery.py

bench: $(VENV)/.runtime
	$(VENV)/bin/python -m benchmarks

lint: $(VENV)/.tools
	$(VENV)/bin/ruff check --no-cache $(CODE)
	$(VENV)/bin/ruff format --no-cache --check $(CODE)

types: $(VENV)/.tools
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tests/typing/check_public.py

layers: $(VENV)/.tools
	$(VENV)/bin/lint-imports --no-cache

suite: $(WHEEL_VENV)/.ready
	sh tests/run.sh "$(CURDIR)" "$(CURDIR)/$(WHEEL_VENV)/bin/python"

$(VENV)/.runtime: pyproject.toml
	@test -n "$(PYTHON)" || { echo "sisy-redis needs Python 3.11 or newer with venv and ensurepip (on Debian and Ubuntu:" \
		"the package python3-venv); name one with make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) -e ".[embedded,fast,cli]"
	@touch $@

$(VENV)/.tools: $(VENV)/.runtime
	$(VENV)/bin/python $(PIP_INSTALL) -e ".[embedded,fast,cli,django,test,dev]"
	@touch $@

# The wheel is built from the source archive, as a release is; it is installed where nothing else of the checkout is.
$(WHEEL_VENV)/.ready: $(VENV)/.tools $(SOURCES)
	rm -rf dist
	$(VENV)/bin/python -m build --outdir dist . >dist.log 2>&1 || { cat dist.log >&2; exit 1; }
	@rm -f dist.log
	$(PYTHON) -m venv --clear $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python $(PIP_INSTALL) "$$(ls dist/*.whl)[embedded,fast,cli,django,test]"
	@touch $@

clean:
	rm -rf $(VENV) $(WHEEL_VENV) dist dist.log
