# Every target sets up what it needs by itself: a fresh clone, Python 3.11 and make are enough.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
BENCH := OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# Tests and tools of this Makefile run beside each other: threads that spin while they wait would
# starve their neighbours.
export OMP_WAIT_POLICY := passive

# GPU kernels in Triton's interpreter, which a process has or has not from its start.
INTERPRETED := TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/compiler/interpreted

.PHONY: demo lines test test-all test-eager test-faults fuzz soak lint types docs bench figures clean

demo: $(VENV)/.ready
	$(BIN)/spikeloom train plif/digits

# Lines of Python in src. More is a decision: raise it in the commit that needs it.
SRC_LINES := 47750

lines:
	@find src -name '*.py' -exec cat {} + | wc -l | awk '{ print "src: " $$1 " lines of $(SRC_LINES)"; exit $$1 > $(SRC_LINES) }'

test: lines lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not faults and not gpu and not data"
	$(INTERPRETED) -m "not slow"

test-all: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not faults and not gpu and not data"
	$(INTERPRETED)

# The reference path: every step as it is written. Tests about kernels are skipped.
test-eager: $(VENV)/.dev
	SPIKELOOM_BACKEND=eager OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 \
		-m "not slow and not faults and not gpu and not data" \
		tests/neurons tests/nn tests/compiler tests/methods --ignore=tests/compiler/interpreted

# Real runs of all methods, killed 360 times, and 45 times on two processes; adds up what it found.
# FAULT_SEED=... repeats a campaign.
test-faults: $(VENV)/.dev
	@rm -f $(VENV)/faults.jsonl
	OMP_NUM_THREADS=1 FAULT_RECORD=$(abspath $(VENV)/faults.jsonl) $(BIN)/python -m pytest -n 2 tests/faults tests/training/test_faults.py
	@$(BIN)/python tests/faults/summary.py $(VENV)/faults.jsonl

# Every parser, FUZZ_SECONDS in all.
FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.fuzz
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

# 5,000 steps of two recipes; memory and throughput over time.
soak: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak --csv benchmarks/results/soak-cpu.csv

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.bench
	$(BENCH) neurons --csv benchmarks/results/neurons-cpu.csv
	$(BENCH) neurons --plain --csv benchmarks/results/neurons-plain-cpu.csv
	$(BENCH) neurons PLIF --torch-compile --rounds 5 --csv benchmarks/results/neurons-compile-cpu.csv
	$(BENCH) linear --torch-compile --csv benchmarks/results/linear-cpu.csv
	$(BENCH) training --csv benchmarks/results/training-cpu.csv
	$(BENCH) training --plain --csv benchmarks/results/training-plain-cpu.csv
	$(BENCH) synapses --csv benchmarks/results/synapses-cpu.csv
	$(BENCH) calls --csv benchmarks/results/calls-cpu.csv
	$(BENCH) startup --torch-compile --csv benchmarks/results/startup-cpu.csv
	$(BENCH) memory --csv benchmarks/results/memory-cpu.csv
	$(BIN)/python -m benchmarks.pages

# The figures of README whose data come with the package; some minutes.
figures: $(VENV)/.ready
	$(BIN)/python -m benchmarks.figures

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or newer"; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, not " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.ready
	$(PIP) --editable ".[docs]"
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	$(PIP) --editable ".[dev,fuzz]"
	@touch $@

$(VENV)/.bench: $(VENV)/.ready
	$(PIP) --requirement benchmarks/requirements.txt
	@touch $@
