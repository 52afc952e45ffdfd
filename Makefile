# `make` lists the targets. The environment is .venv; delete it to start afresh.
PYTHON ?= python3
BIN := .venv/bin

# One process, wherever it runs: the launcher takes the GPU if there is one, the CPU if not. `--quiet`: an error of ours
# is one line, not one line and the launcher's traceback.
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no --quiet

# A process for each core, four at most, of one thread each; the tests of a file share one, and what was made for them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/.installed-demo ## make a small shop, pretrain an encoder, train, recommend: into runs/demo
	$(BIN)/python train/make_shop.py --config configs/demo_shop.yaml
	$(BIN)/python train/pretrain_clip.py --config configs/demo_clip.yaml
	$(LAUNCH) train/train.py --config configs/demo.yaml
	$(BIN)/hfrec recommend --model runs/demo --sample-users 2 \
		--interactions runs/demo/shop/interactions.parquet --images runs/demo/shop --sheet runs/demo/sheet.png

test: .venv/.installed-test ## run the tests, doctests and house tests included
	$(PYTEST)

check: .venv/.installed-test ## ruff, mypy and the tests: what a pull request must pass
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

# pip is what a half-made environment lacks, so pip is what stands for the environment.
.venv/bin/pip:
	$(PYTHON) -m venv .venv

# A stamp per extra: installing again is a second's work until pyproject.toml changes.
.venv/.installed-%: pyproject.toml | .venv/bin/pip
	$(BIN)/python -m pip install -e ".[$*]"
	@touch $@
