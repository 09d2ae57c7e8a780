PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint benchmark clean

demo: .venv/ready  ## train DRAW on 4,000 digits: about 3 minutes on two CPU cores
	$(BIN)/python main.py

test: .venv/ready  ## all tests
	$(BIN)/python -m pytest

lint: .venv/ready  ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmark: .venv-benchmark/ready  ## latentjax beside PyTorch on this machine: about 10 minutes on two CPU cores
	.venv-benchmark/bin/python -m benchmarks.race

clean:  ## remove the virtual environments
	rm -rf .venv .venv-benchmark

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv-benchmark/ready: requirements.txt requirements-dev.txt benchmarks/requirements.txt
	$(PYTHON) -m venv .venv-benchmark
	.venv-benchmark/bin/python -m pip install --quiet --upgrade pip
	.venv-benchmark/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	touch $@
