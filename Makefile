# Two commands: `make toy` sets everything up and runs the toy experiment; `make test` passes the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: toy test test-real-data format clean

toy: .venv/installed
	$(BIN)/python -m rebuttal.train experiment=toy

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest -m "not real_data"

# Slow: needs the JPEG copy of CIFAR-10, REBUTTAL_CIFAR10_JPEG=/path/to/cifar10-jpeg.tar.xz
test-real-data: .venv/installed
	$(BIN)/pytest -m real_data

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
