# Everything starts from python3 (3.11 or newer, with venv) and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo figures lessons site publish test test-slow lint format clean

help:             ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: .venv/installed  ## make .venv and install the package with its tests

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ddpm needs Python 3.11 or newer; call make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@echo "installing into .venv: one to three minutes, without output"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/installed     ## draw garments, compare samplers, measure typicality and train, in out/demo
	$(BIN)/ddpm demo

figures: .venv/installed  ## make the papers' figures, in experiments/results; prints first how long it takes
	$(BIN)/python -m experiments all
	$(BIN)/python -m experiments.lab.gallery
	$(BIN)/python -m experiments.lab.papers
	$(BIN)/python -m experiments.lab.readme_pages

lessons: .venv/installed  ## run every lesson, and compare its time with its header (BUDGET=smoke, short or full)
	$(BIN)/python -m lessons --budget $(or $(BUDGET),short)

site: .venv/installed     ## build the course as a site, in site/html (needs node; installs the extra `course`)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,course]'
	$(BIN)/python docs/site/build.py

publish:          ## push the site to the branch gh-pages of origin
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ghp-import
	$(BIN)/ghp-import --no-jekyll --push --message "The site" site/html

PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/installed     ## run the quick tests, without network and without data: six minutes on two cores
	$(PYTEST) -m "not slow" $(TESTS)

test-slow: .venv/installed ## run the others: whole trainings, lessons, quick forms of figures, two processes, the site
	XLA_FLAGS=--xla_backend_optimization_level=1 $(PYTEST) -m slow $(TESTS)

lint: .venv/installed     ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed   ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:                    ## remove everything that make and the commands wrote (not runs/)
	rm -rf .venv out dist build site .pytest_cache .mypy_cache .ruff_cache
