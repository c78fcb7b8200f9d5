# The short names. `make` lists them; CI runs the same ones.
#
# make lab PYTHON=python3.12   builds the environment, .venv, with that Python
# make test PY=python          uses the active environment (conda) and installs nothing
# make test LOCKED=1           installs exactly what requirements.txt pins
# make test OFFLINE=1          runs the notebooks with the network off (Linux)

.PHONY: help lab test test-browser test-offline test-gpu check-export check-style \
	check-types check-spelling check-code check-notebooks export notebooks results \
	lock clean
.NOTPARALLEL:

RIGHT_PYTHON = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
WORKBOOK ?= workbook
LESSON ?= $(WORKBOOK)/00_start_here.ipynb
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; \
	do $$p -c '$(RIGHT_PYTHON)' 2>/dev/null && echo $$p && break; done)
STRIP = $(PY) -m nbstripout --keep-output --keep-count --keep-id --extra-keys \
	"$(addprefix metadata.language_info.,codemirror_mode file_extension mimetype \
	nbconvert_exporter pygments_lexer version)"

# JupyterLab refuses root, which many a container has, unless it is told otherwise.
AS_ROOT = $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)

# An environment is ready when its stamp is newer than pyproject.toml.
ifeq ($(origin PY),undefined)
PY = .venv/bin/python
LAB_ENV = $(if $(LOCKED),.venv/.locked,.venv/.course)
TEST_ENV = $(if $(LOCKED),.venv/.locked,.venv/.test)
endif

# Two processes share the files of tests, with one thread each.
PARALLEL = -n 2 --dist loadfile
check-code check-notebooks: export OMP_NUM_THREADS = 1

ifdef OFFLINE
NO_NETWORK = unshare --map-root-user --net sh -c 'ip link set lo up && exec "$$@"' sh
endif

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile

lab: $(LAB_ENV)  ## open your workbook in JupyterLab (the first time: install, make it)
	$(PY) -m course_vit start $(WORKBOOK)
	$(PY) -m jupyterlab $(AS_ROOT) $(LAB_FLAGS) $(LESSON)

test: check-export check-style check-types check-spelling check-code check-notebooks  ## check everything but the browser

test-browser: $(TEST_ENV)  ## run every notebook and the explorer in a real browser
	$(PY) -m pytest -m browser --durations=10 tests/test_browser.py tests/test_explorer.py

test-offline:  ## run the notebooks with the network off (Linux)
	@unshare --map-root-user --net ip link set lo up || { echo "make test-offline needs \
	Linux, unshare (util-linux), ip (iproute2) and the right to use them"; exit 1; }
	$(MAKE) check-notebooks OFFLINE=1

test-gpu: check-notebooks  ## run the notebooks and the parity tests on a GPU
	$(PY) -m pytest -m gpu --durations=10 tests/test_gpu.py
	$(PY) -m pytest --device cuda --durations=10 tests/test_parity*.py

check-export: $(TEST_ENV)  ## is every module what its notebook prints?
	$(PY) -m course_vit export --check

check-style: $(TEST_ENV)  ## lint, formatting, stored notebooks free of run-time details
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(STRIP) --verify notebooks/*.ipynb

check-types: $(TEST_ENV)  ## types
	$(PY) -m mypy

check-spelling: $(TEST_ENV)  ## spelling
	$(PY) -m codespell_lib

check-code: $(TEST_ENV)  ## the tests; every error that a lesson raises is provoked
	$(PY) -m pytest $(PARALLEL) --every-raise --durations=10 tests

check-notebooks: $(TEST_ENV)  ## run every notebook and compare every output
	$(NO_NETWORK) $(PY) -m pytest $(PARALLEL) --nbval --durations=10 notebooks

export: $(TEST_ENV)  ## print the modules from the notebooks
	$(PY) -m course_vit export

notebooks: $(TEST_ENV)  ## run every notebook from the top and store its outputs
	COURSE_VIT_QUIET=1 $(PY) -m jupyter execute --inplace notebooks/*.ipynb
	$(STRIP) notebooks/*.ipynb

results: $(TEST_ENV)  ## run the long trainings and store what they find (an hour)
	$(PY) -m course_vit.kit.results

lock: $(TEST_ENV)  ## renew requirements.txt from pyproject.toml
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --upgrade --python-version 3.11 --python-platform \
		x86_64-unknown-linux-gnu --extra course --extra test --generate-hashes \
		--no-annotate --custom-compile-command "make lock" \
		--output-file requirements.txt pyproject.toml

clean:  ## forget the environment; the next make builds it afresh
	rm -rf .venv

.venv/bin/pip:
	@$(or $(PYTHON),false) -c '$(RIGHT_PYTHON)' || { echo "This course needs Python 3.10 to \
	3.13, got $(or $(PYTHON),none). Install one, or name one: make lab PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.course: pyproject.toml | .venv/bin/pip
	@echo "Installing into .venv: some minutes the first time, torch is large."
	$(PY) -m pip install -e ".[course]"
	touch $@

.venv/.test: pyproject.toml | .venv/bin/pip
	$(PY) -m pip install -e ".[course,test]"
	touch $@ .venv/.course

.venv/.locked: pyproject.toml requirements.txt | .venv/bin/pip
	$(PY) -m pip install --require-hashes -r requirements.txt
	$(PY) -m pip install --no-deps -e .
	touch $@
