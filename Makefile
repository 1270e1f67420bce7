# What a fresh clone needs: Python 3.11 or later with pip, make, g++ and perl.
PYTHON ?= python3
BIN := .venv/bin

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/base: pyproject.toml
	@echo "creating .venv and installing the tools (once, a minute or two) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m mulfree.tools
	@touch $@

.venv/dev: .venv/base
	@echo "installing what the tests need (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/base  ## run handwritten digits through the generated hardware
	@$(BIN)/mulfree demo

test: .venv/dev  ## run the tests
	@$(BIN)/pytest -n auto

.venv/train: .venv/dev
	@echo "installing what the training recipes need (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,train]'
	@touch $@

test-all: .venv/train  ## run every test, those that take minutes too
	@$(BIN)/pytest -n auto -m "slow or not slow"

lint: .venv/dev  ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

bitstreams: .venv/dev  ## build every board's default bitstream (half an hour or more)
	@for board in ulx3s-85f ulx3s-25f icebreaker tang-nano-9k; do $(BIN)/mulfree build $$board || exit; done

figures: .venv/base  ## measure the README's figures that have no result yet (an hour or more)
	@$(BIN)/python -m mulfree_lab.figures

estimator: .venv/base  ## complete the sweep, fit the estimator, write its errors (an hour or more)
	@$(BIN)/python -m mulfree_lab.estimator

cells: .venv/base  ## measure standard cells for the papers' table (needs Debian's cell library, iverilog)
	@$(BIN)/mulfree papers --measure all

MODEL ?= pretrainedResnet_quant.tflite
engine: .venv/dev  ## place and route the engine that fills an LFE5U-85F (an hour or more): MODEL=net.tflite
	@$(BIN)/python -m mulfree_lab.engine $(MODEL)

clean:  ## remove what was built, but not .venv
	rm -rf build dist out .pytest_cache .ruff_cache .hypothesis

.PHONY: help demo test test-all lint figures cells estimator bitstreams engine clean
