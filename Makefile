# `make demo` and `make test` are all that a fresh machine needs.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: install demo test lint bench bench-gpu site clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,serve,ray,docs,faiss,onnx,video,heic,st]"
	touch $@

demo: install
	$(BIN)/close demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 10

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: install
	$(BIN)/python -m experiments.bench

bench-gpu: install
	$(BIN)/python -m experiments.bench.gpu

clean:
	rm -rf $(VENV) demo bench site build dist *.egg-info
