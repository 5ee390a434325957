# make tune: tune a thousand real models; make test: run the tests. Both need only python3 and the package registries.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
EXTRAS ?= all
CONSTRAINTS ?= constraints.txt
WORKERS ?= auto

.PHONY: install tune check quick test test-lowest test-newest quick-newest test-slow accelerator lint types site notebooks screenshots package clean

# an install is valid as long as nothing it was made from has changed; make tune is content with less than the tests need
INSTALLED := $(VENV)/.installed
TUNES     := $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(VENV)/.tunes)
$(VENV)/.tunes: EXTRAS = examples
$(INSTALLED) $(VENV)/.tunes: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25" "setuptools>=77"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable ".[$(EXTRAS)]"
	touch $@

install: $(INSTALLED)

tune: $(TUNES)
	$(BIN)/jhpo tune examples/digits_mlp.py --strategy pso --set population=256 --budget 1024 --seed 0

# within two minutes: what to run before each commit
check: lint types quick

quick: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m quick --durations=5

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=20

# the oldest versions that pyproject.toml allows, in an environment of their own
test-lowest:
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

# the newest versions that there are for PYTHON, again in an environment of their own
test-newest:
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=/dev/null

# a short test with the newest versions there were, which are listed: a gate is to fail for what was changed
quick-newest:
	$(MAKE) quick VENV=.venv-quick CONSTRAINTS=constraints-newest.txt

test-slow: install
	$(BIN)/python -m pytest -m "slow or exact"

# needs no install: PYTHON has JAX for the accelerator, flax and optax
accelerator:
	$(PYTHON) benchmarks/accelerator.py --output out/accelerator.jsonl

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# type checkers do not see the package mapping of an editable install, so they check a copy
types: install
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/types .
	cp -r tests build/types/
	cd build/types && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml

# the documentation as a site in build/site, warnings are errors; in an environment of its own
site:
	$(MAKE) install VENV=.venv-site EXTRAS=site
	NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --strict --quiet

# the notebooks of the site, with what they print and draw
notebooks:
	$(MAKE) install VENV=.venv-site EXTRAS=site
	.venv-site/bin/jupyter nbconvert --to notebook --execute --inplace docs/notebooks/*.ipynb

# pictures of pages in Chromium (Debian: apt-get install chromium), for README and the site
screenshots:
	$(MAKE) install VENV=.venv-site EXTRAS=site
	.venv-site/bin/python docs/screenshots.py

package: install
	$(BIN)/python -m pytest -m package tests/packaging

clean:
	rm -rf $(VENV) .venv-site build dist *.egg-info
