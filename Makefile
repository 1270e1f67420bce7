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
# 76.25 MHz is the next clock that the board's PLL makes above 75.65, which 2,432 images a second need.
ENGINE = --outputs 16 --lanes 36 --fill-lanes 2 --utilization 0.77 --freq 76.25 --seed 7
engine: .venv/dev  ## build the large ECP5 with the engine that fills it (an hour): MODEL=net.tflite
	@mkdir -p build
	@# A clock that is missed has figures as well.
	@$(BIN)/mulfree build ulx3s-85f --network $(MODEL) $(ENGINE) --json > build/engine.json || test -s build/engine.json
	@mv build/engine.json docs/results/resnet8_ulx3s-85f.json

clean:  ## remove what was built, but not .venv
	rm -rf build dist out .pytest_cache .ruff_cache .hypothesis

.PHONY: help demo test test-all lint figures cells estimator bitstreams engine clean
