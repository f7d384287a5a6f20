# Two commands: `make toy` sets everything up and runs the toy experiment; `make test` runs the checks and tests.
# `make study` runs every experiment over seeds and writes the report; rerun it to resume.
PYTHON ?= python3
BIN := .venv/bin

# The images of `make study`: IMAGES=/path/to/images.tar.xz uses those instead of CIFAR-10.
IMAGES :=
OF_IMAGES := $(if $(IMAGES),dataset=image_folder dataset.root=$(IMAGES))
SUBSET := dataset.train_size=5000 training.stop_accuracy=1.0
ON_IMAGES := $(OF_IMAGES) model=mlp $(SUBSET)
# A convolutional network: whole on true labels, without augmentation on the subset. One seed, as it takes long.
CONVOLUTIONS := $(OF_IMAGES) model=airbench training=record evaluate=last seed=0
ON_SUBSET := $(CONVOLUTIONS) training.augmentation=null training.epochs=100 $(SUBSET)
STUDY := $(BIN)/python -m rebuttal.train -m size=study hydra/launcher=local
# K = 1,000: students of ten and twenty times fewer inputs than their teacher had, new ones and its own.
AT_1000 := hydra.sweep.dir=outputs/study/leak_1000 dataset.classes=1000 dataset.train_size=10000 \
  dataset.student_size=1000 training.epochs=1800 training.lr=2.0e-3 stages.student.training.epochs=12000 \
  stages.student.training.lr=1.0e-3 stages.student.share=0.1 stages.curve.shares=[0.5,1.0] \
  '~stages.student_shuffled' '~stages.student_hard' '~stages.other_labels'

.PHONY: toy study check test test-oldest docs golden lock test-slow test-gpu format clean

toy: .venv/installed
	$(BIN)/python -m rebuttal.train experiment=toy

study: .venv/installed
	$(STUDY) experiment=baseline $(ON_IMAGES)
	$(STUDY) experiment=smoothness $(ON_IMAGES)
	$(STUDY) experiment=frequency $(ON_IMAGES)
	$(STUDY) experiment=corruption seed=0,1,2 $(ON_IMAGES)
	$(STUDY) experiment=baseline $(CONVOLUTIONS) corruption=none training.epochs=20 training.schedule.final=0 \
	  hydra.sweep.dir=outputs/study/baseline_convolutions
	$(STUDY) experiment=baseline $(ON_SUBSET) hydra.sweep.dir=outputs/study/baseline_convolutions_5000
	$(STUDY) experiment=smoothness $(ON_SUBSET) hydra.sweep.dir=outputs/study/smoothness_convolutions
	$(STUDY) experiment=frequency $(ON_SUBSET) hydra.sweep.dir=outputs/study/frequency_convolutions
	$(STUDY) experiment=corruption $(ON_SUBSET) corruption.fraction=0,0.5,1 \
	  hydra.sweep.dir=outputs/study/corruption_convolutions
	$(STUDY) experiment=two_stage model=mlp_toy dataset.shape=[100]
	$(STUDY) experiment=sample_efficiency
	$(STUDY) experiment=random_walk
	$(STUDY) experiment=leak
	$(STUDY) experiment=leak seed=0,1,2 $(AT_1000)
	$(BIN)/python -m rebuttal.report outputs/study --out results

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

TWO_AT_A_TIME := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

test: check
	$(TWO_AT_A_TIME) -m "not slow and not gpu"

# The oldest versions that pyproject.toml allows, with OLDEST_PYTHON (3.10 to 3.12), and smoke tests on them. Warnings are
# no errors there: old libraries use what newer ones below them deprecate.
OLDEST_PYTHON ?= $(PYTHON)
test-oldest: .venv-oldest/installed
	OMP_NUM_THREADS=1 PATH=$(CURDIR)/.venv-oldest/bin:$$PATH .venv-oldest/bin/pytest -q -W default $(SMOKE)
SMOKE := tests/test_train.py::test_every_experiment_runs_in_debug_size_and_leaves_what_a_run_leaves \
  tests/runs/test_load.py tests/store tests/training tests/models/test_models.py tests/report/test_tables.py

# The documentation, in site/. A warning is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Renew the golden trajectories of tests/golden, after a change that is meant to change results.
golden: .venv/installed
	$(BIN)/python -m tests.golden

# Tests that watch the clock or the memory, or use all cores of the machine.
ALONE := tests/test_survival.py tests/test_slurm.py tests/test_memory.py tests/launch/test_gpu_slots.py

# Runs that are killed, crowded and starved, every launcher; and sweeps on the SLURM cluster that SLURM_CONF names (else
# skipped), whose partition `urgent` must preempt the default one. With REBUTTAL_CIFAR10_JPEG=/path/to/cifar10-jpeg.tar.xz
# also those on real images.
test-slow: .venv/installed
	$(TWO_AT_A_TIME) -m slow tests $(addprefix --ignore=,$(ALONE))
	$(BIN)/pytest -m slow $(ALONE)

# What can differ on a GPU, on a machine that has one.
test-gpu: .venv/installed
	$(BIN)/pytest -m gpu

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-oldest .venv-lock

# Exact versions with the hashes of their files on PyPI, so not of PyTorch's own CPU builds: for those, or for other
# versions, install without the lock file: pip install --editable '.[dev]'
.venv/installed: pyproject.toml requirements/lock.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements/lock.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv-oldest/installed: pyproject.toml requirements/oldest.txt
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --require-hashes -r requirements/oldest.txt
	.venv-oldest/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Renew both lists of versions, for Python 3.10 and newer on every system; pip's own constraint, if one is set, holds.
COMPILE = printf 'hatchling>=1.27\neditables>=0.5\n' | .venv-lock/bin/uv pip compile --quiet --upgrade --universal --no-annotate \
  --python-version 3.10 --extra dev --generate-hashes --custom-compile-command 'make lock' pyproject.toml - \
  $$(.venv-lock/bin/pip config get global.constraint 2>/dev/null | sed 's/^/--constraints /')
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	$(COMPILE) --output-file requirements/lock.txt
	$(COMPILE) --resolution lowest-direct --output-file requirements/oldest.txt
