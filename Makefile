# One command a job, the same on a laptop and in CI. `demo` and `test` make a virtual environment and install by themselves.
#
#   make demo            the IOI study on SmolLM2-135M, and its report in report/index.html   (QUICK=1: a short one)
#   make test            style, types, all tests                                               (ARGS="-k name": some)
#   make lint            style and types alone
#   make docs            runs every example of README.md and docs/
#   make bench           side by side with TransformerLens, in an environment of its own
#   make clean           removes the environments and the report

PYTHON ?= python3
OUT ?= report
ARGS ?=
VENV := .venv
BENCH := .venv-bench
WORKERS ?= 2

.PHONY: demo test lint docs bench clean

demo: $(VENV)/.for-use
	$(VENV)/bin/unweave study ioi --out $(OUT) $(if $(QUICK),--quick)

test: lint
	$(VENV)/bin/pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(VENV)/.for-work
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

docs: $(VENV)/.for-work
	$(VENV)/bin/pytest tests/test_docs.py $(ARGS)

bench: $(BENCH)/.for-use
	$(BENCH)/bin/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH) $(OUT)

# Each stamp stands for what is installed; it is out of date when the requirements or the tested versions change.
$(VENV)/.for-use: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -c constraints.txt -e .
	@touch $@

$(VENV)/.for-work: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.for-use

$(BENCH)/.for-use: pyproject.toml constraints.txt | $(BENCH)/bin/python
	$(BENCH)/bin/python -m pip install -c constraints.txt -e ".[bench]"
	@touch $@

$(VENV)/bin/python $(BENCH)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "unweave needs Python 3.11 to 3.14 and found $$($(PYTHON) --version); name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(patsubst %/bin/python,%,$@)
