PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo compare results benchmark compiled test lint docs clean python

demo: .venv/ready  ## train DRAW on 4,000 digits: about 3 minutes on two CPU cores
	$(BIN)/python main.py

compare: .venv/ready  ## train the three demos and compare them: about 5 minutes on two CPU cores
	$(BIN)/python main.py train vae:demo --workdir=runs/demo/vae
	$(BIN)/python main.py train ladder_vae:demo --workdir=runs/demo/ladder_vae
	$(BIN)/python main.py train draw:demo --workdir=runs/demo/draw
	$(BIN)/python main.py compare runs/demo/vae runs/demo/ladder_vae runs/demo/draw \
	  --workdir=runs/demo/comparison
	@echo "Open runs/demo/comparison/report.html in a browser."

# Eight unmodified configs; docs/results.md lists the keys that its rows changed. WITHOUT="draw_base ..." leaves out
# rows; the papers' own settings need an accelerator: make results ROWS="draw_paper ladder_vae_paper".
ROWS = vae vae_residual bottom_up ladder_vae ladder_vae_dense draw_base draw_filterbank draw_deep
vae = vae:default
vae_residual = vae:residual
bottom_up = ladder_vae:bottom_up
ladder_vae = ladder_vae:default
ladder_vae_dense = ladder_vae:dense
draw_base = draw:base
draw_filterbank = draw:filterbank
draw_deep = draw:deep
draw_paper = draw:paper
ladder_vae_paper = ladder_vae:paper
# Seeds trained together in every row: 1 on a CPU, and 8 on an accelerator, for error bars.
SEEDS = $(if $(wildcard /dev/nvidia[0-9]* /dev/accel[0-9]*),8,1)
WANTED = $(filter-out $(WITHOUT),$(ROWS))

results: .venv/ready  ## train eight configs, resuming unfinished ones, and compare them: hours on two CPU cores
	$(foreach row,$(WANTED),$(BIN)/python main.py train $($(row)) --config.train.num_seeds=$(SEEDS) \
	  --workdir=runs/results/$(row) &&) true
	$(BIN)/python main.py compare $(WANTED:%=runs/results/%) \
	  --workdir=runs/results/comparison
	@echo "The table is runs/results/comparison/comparison.md; report.html beside it shows the rest."

test: .venv/ready  ## all tests
	$(BIN)/python -m pytest

lint: .venv/ready  ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: .venv-docs/ready  ## this project's site, into docs/_build/html; executes the tutorials
	PYTHONPATH="$(CURDIR)" .venv-docs/bin/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "Open docs/_build/html/index.html in a browser."

benchmark: .venv-benchmark/ready  ## compare with PyTorch: 10 minutes on two CPU cores, downloads 0.5 GB (more with a GPU)
	.venv-benchmark/bin/python -m benchmarks.compare_pytorch

compiled: .venv-compiled/ready  ## compile training steps for GPUs and TPUs, without having one: minutes
	.venv-compiled/bin/python -m benchmarks.cross_compile --target h100 h100x8 tpu-v5e

clean:  ## remove the virtual environments
	rm -rf .venv .venv-docs .venv-benchmark .venv-compiled docs/_build docs/zoo

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "latentjax needs Python 3.11 or later, not " + \
	  sys.version.split()[0] + ". Run make PYTHON=python3.11")'

.venv/ready: requirements.txt requirements-dev.txt | python
	@echo "Installing into .venv; this takes a few minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

.venv-docs/ready: requirements.txt requirements-dev.txt requirements-docs.txt | python
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --upgrade pip
	.venv-docs/bin/python -m pip install --quiet -r requirements-docs.txt
	touch $@

# PyTorch: a wheel in pip's own --find-links directories if there is one, else the build that uv selects for this
# machine, which without an NVIDIA driver is the CPU build (200 MB). pip alone would install the CUDA libraries, too.
.venv-benchmark/ready: requirements.txt requirements-dev.txt | python
	$(PYTHON) -m venv .venv-benchmark
	.venv-benchmark/bin/python -m pip install --quiet --upgrade pip
	.venv-benchmark/bin/python -m pip install --quiet -r requirements-dev.txt uv
	.venv-benchmark/bin/python -m pip install --quiet --no-index --no-deps 'torch>=2.6' 2>/dev/null || \
	  .venv-benchmark/bin/uv pip install --python .venv-benchmark/bin/python --torch-backend=auto 'torch>=2.6'
	.venv-benchmark/bin/python -m pip install --quiet torch  # its dependencies
	touch $@

.venv-compiled/ready: requirements.txt requirements-dev.txt | python  # compilers for the same version of JAX
	$(PYTHON) -m venv .venv-compiled
	.venv-compiled/bin/python -m pip install --quiet --upgrade pip
	.venv-compiled/bin/python -m pip install --quiet -r requirements-dev.txt
	JAX=$$(.venv-compiled/bin/python -c 'import jax; print(jax.__version__)') && \
	  .venv-compiled/bin/python -m pip install --quiet "jax[tpu]==$$JAX" "jax-cuda12-plugin==$$JAX" \
	  "jax-cuda12-pjrt==$$JAX" nvidia-cuda-nvcc-cu12
	touch $@
