# Every target makes the virtual environment when it is missing.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
# The first Python on the path that is new enough.
PYTHON := $(shell for p in python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
	&& { echo $$p; break; }; done)

.PHONY: setup quickstart test test-all lint format golden bench aot \
	aot-budgets aot-full docs notebooks clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "normjax needs Python 3.12 or newer;" \
	  "found: $$(python3 --version 2>&1)." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e . --group dev
	@touch $@

quickstart: setup
	$(BIN)/normjax sweep configs/sweeps/quickstart.py --out=runs/quickstart

test: setup
	$(PYTEST)
	$(PYTEST) --optimized

test-all: setup
	$(PYTEST) -m "slow or not slow"
	$(PYTEST) --optimized -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Rewrites tests/golden after a change of configs that was meant.
golden: setup
	NORMJAX_UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/golden

bench: setup
	$(BIN)/normjax bench

# What compiles for accelerators, without drivers; and its tests.
AOT := $(VENV)/.installed-aot
$(AOT): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[aot]'
	@touch $@

aot: $(AOT)
	$(PYTEST) -m "slow or not slow" tests/aot

# Adds to tests/aot/budgets.json what it has not. After a change that was meant
# BUDGETS=all rewrites it, and ONLY="norm and h200" a part, by names of tests.
BUDGETS := missing
aot-budgets: $(AOT)
	NORMJAX_UPDATE_BUDGETS=$(BUDGETS) $(BIN)/python -m pytest -n 0 -m slow \
	  -k "test_budget and ($(or $(ONLY),test))" tests/aot/test_budgets.py

# The tables at full size: an hour or more.
aot-full: $(AOT)
	$(BIN)/python -m kernels_pallas.bench --compile-only \
	  --out=runs/aot/kernels.json
	$(BIN)/normjax bench compiled --target=h200,v6e \
	  --precisions=float32,bfloat16 --out=runs/aot

# Rewrites docs/reference and makes site/, whose links are checked.
docs: setup
	JAX_PLATFORMS=cpu $(BIN)/python -W ignore -m docs.generator

# Runs the notebooks and keeps their outputs, after a change of their code.
notebooks: setup
	$(BIN)/python notebooks/execute.py

clean:
	rm -rf $(VENV) site
