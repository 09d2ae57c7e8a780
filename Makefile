PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint clean

demo: .venv/ready  ## train DRAW on 4,000 digits: about 3 minutes on two CPU cores
	$(BIN)/python main.py

test: .venv/ready  ## all tests
	$(BIN)/python -m pytest

lint: .venv/ready  ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove the virtual environment
	rm -rf .venv

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
