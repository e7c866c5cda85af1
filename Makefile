# Everything here works on a machine with python3 (3.11 or newer, with venv) and make; the first run fills .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# A process for every core, each with one thread; those that are through first take over tests of the others.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n logical --maxprocesses 8 --dist worksteal

.PHONY: demo test tests quick lint slow bench paper gpu docs clean

demo: $(VENV)/.installed
	$(BIN)/longtake generate "a rocket flies up through the night sky" --frames 256 --sampler fifo --seed 7 --scale 4 -o rocket.mp4

# Side by side: of two cores pyright would leave one idle.
test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory --jobs 2 lint tests

tests: $(VENV)/.installed-dev
	$(PYTEST)

# Contracts, layers and the authors' numbers: what breaks first.
quick: $(VENV)/.installed-dev
	$(PYTEST) tests/test_layers.py tests/test_schedule.py tests/samplers/test_contract.py tests/samplers/fifo/test_golden.py tests/samplers/test_step.py tests/models/pvdm/test_unet.py

# Who imports whom is a test, in tests/test_layers.py.
lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/pyright

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

bench: $(VENV)/.installed-dev
	$(BIN)/python -m lab measure fifo
	$(BIN)/python -m lab measure nuwa-xl
	$(BIN)/python -m lab measure pvdm
	$(BIN)/python -m lab measure scaling

# The tables of docs/benchmarks into paper/, each with its command, machine and commit; what takes longer than MINUTES is named.
paper: $(VENV)/.installed-dev
	$(BIN)/python scripts/paper.py --minutes $(or $(MINUTES),10)

# The site, in site/; a link that leads nowhere fails.
docs: $(VENV)/.installed
	$(INSTALL) -e '.[docs]'
	$(BIN)/mkdocs build

# For half an hour with a GPU: trains, scores, tests and measures within MINUTES, and leaves what is worth keeping in gpu/.
gpu: $(VENV)/.installed-dev
	$(BIN)/python -m lab measure gpu --minutes $(or $(MINUTES),25)

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .import_linter_cache src/*.egg-info

# A stamp is younger than the files that decide what is installed, or the installation runs again.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The size and the time were measured with torch's build for the CPU, on one core, with all packages on the disk already.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Filling .venv with longtake and torch: 1.4 GB, or several more where pip brings CUDA; 5 minutes and the downloads"
	$(INSTALL) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev,serve,train]'
	touch $@ $(VENV)/.installed
