# Two commands: `make toy` sets everything up and runs the toy experiment; `make test` passes the tests.
# `make study` runs every experiment over seeds and writes the report; given again, it goes on where it stopped.
PYTHON ?= python3
BIN := .venv/bin

# Where the images of `make study` come from; IMAGES=/path/to/images.tar.xz takes those instead of CIFAR-10.
IMAGES :=
ON_IMAGES := model=mlp dataset.train_size=5000 training.stop_accuracy=1.0 \
  $(if $(IMAGES),dataset=image_folder dataset.root=$(IMAGES))
STUDY := $(BIN)/python -m rebuttal.train -m size=study

.PHONY: toy study test test-real-data test-slow format clean

toy: .venv/installed
	$(BIN)/python -m rebuttal.train experiment=toy

study: .venv/installed
	$(STUDY) experiment=baseline $(ON_IMAGES)
	$(STUDY) experiment=smoothness $(ON_IMAGES)
	$(STUDY) experiment=frequency $(ON_IMAGES)
	$(STUDY) experiment=corruption seed=0,1,2 $(ON_IMAGES)
	$(STUDY) experiment=two_stage model=mlp_toy dataset.shape=[100]
	$(STUDY) experiment=sample_efficiency
	$(STUDY) experiment=random_walk
	$(BIN)/python -m rebuttal.report outputs/study --out results

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not real_data and not slow"

# Slow: needs the JPEG copy of CIFAR-10, REBUTTAL_CIFAR10_JPEG=/path/to/cifar10-jpeg.tar.xz
test-real-data: .venv/installed
	$(BIN)/pytest -m real_data

# Runs that are killed, crowded and starved; and sweeps on the SLURM cluster that SLURM_CONF names (else skipped), whose
# partition `urgent` must pre-empt the default one.
test-slow: .venv/installed
	$(BIN)/pytest -m slow

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
