# Short names for the commands. `make` lists them, and CI runs the same ones. uv makes the
# environment, .venv, if you have it; otherwise Python's own venv and pip do.
#
# make lab PYTHON=python3.12   builds the environment with that Python
# make test PY=python          uses the active environment (conda) and installs nothing
# make test LOCKED=1           installs exactly what requirements.txt pins
# make test OFFLINE=1          runs the notebooks with the network off (Linux)
# make notebooks NOTEBOOKS=notebooks/05_encoder_block.ipynb    runs one lesson

.PHONY: help lab test test-browser site test-site test-offline test-gpu test-hub test-scale bench \
	check-export check-style check-types check-spelling check-code check-notebooks dist export \
	notebooks results lock clean
.NOTPARALLEL:

RIGHT_PYTHON = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
WORKBOOK ?= workbook
NOTEBOOKS ?= notebooks/*.ipynb
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10 python; \
	do $$p -c '$(RIGHT_PYTHON)' 2>/dev/null && echo $$p && break; done)
STRIP = $(PY) -m nbstripout --keep-output --keep-count --keep-id --extra-keys \
	"$(addprefix metadata.language_info.,codemirror_mode file_extension mimetype \
	nbconvert_exporter pygments_lexer version)"

# An environment is ready when its stamp is newer than pyproject.toml.
ifeq ($(origin PY),undefined)
PY = .venv/bin/python
LAB_ENV = $(if $(LOCKED),.venv/.locked,.venv/.course)
TEST_ENV = $(if $(LOCKED),.venv/.locked,.venv/.test)
UV := $(shell command -v uv)
INSTALL = $(if $(UV),$(UV) pip install --compile-bytecode --python $(PY),$(PY) -m pip install)
endif

# Two processes share the files of tests, with one thread each.
PARALLEL = -n 2 --dist loadfile
check-code check-notebooks: export OMP_NUM_THREADS = 1

ifdef OFFLINE
NO_NETWORK = unshare --map-root-user --net sh -c 'ip link set lo up && exec "$$@"' sh
endif

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile

lab: $(LAB_ENV)  ## open your workbook in JupyterLab (the first time: install and make it)
	$(PY) -m course_vit lab $(WORKBOOK) $(LAB_FLAGS)

test: check-export check-style check-types check-spelling check-code check-notebooks  ## check everything but the browser

test-browser: $(TEST_ENV)  ## visit notebooks, explorer and workshop pages in a real browser
	$(PY) -m pytest -m browser --durations=10 tests/test_browser.py \
		tests/test_explorer.py tests/test_workshop.py

site: $(TEST_ENV)  ## build the web site in site/_build/html
	rm -rf site/_build/sources && mkdir -p site/_build/sources
	$(PY) -m sphinx -q -W --keep-going -c site -d site/_build/read \
		site/_build/sources site/_build/html

test-site: $(TEST_ENV)  ## visit every page of the web site in a real browser
	$(PY) -m pytest -m browser --durations=3 tests/test_site.py

test-offline:  ## run the notebooks with the network off (Linux)
	@unshare --map-root-user --net ip link set lo up || { echo "make test-offline needs \
	Linux, unshare (util-linux), ip (iproute2) and the right to use them"; exit 1; }
	$(MAKE) check-notebooks OFFLINE=1

test-gpu: check-notebooks  ## run notebooks, parity tests and trainings on a GPU
	$(PY) -m pytest -m gpu --durations=10 tests/test_gpu.py
	$(PY) -m pytest --device cuda --durations=10 tests/test_parity*.py

test-hub:  ## run a real JupyterHub for two learners (as root; PY= the Python of hub/README.md)
	$(PY) -m pytest -o addopts= -m hub --durations=3 tests/test_hub.py

test-scale: $(TEST_ENV)  ## train in several processes, and kill them (20 minutes)
	$(PY) -m pytest -m scale --durations=10 tests/test_scale.py

bench: $(TEST_ENV)  ## time every model against its peers and store the tables (12 minutes)
	$(PY) -m benchmarks.peers

check-export: $(TEST_ENV)  ## check that every module matches its notebook
	$(PY) -m course_vit export --check

check-style: $(TEST_ENV)  ## check lint, formatting, and that notebooks store no run-time details
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(STRIP) --verify notebooks/*.ipynb

check-types: $(TEST_ENV)  ## check types
	$(PY) -m mypy

check-spelling: $(TEST_ENV)  ## check spelling
	$(PY) -m codespell_lib

check-code: $(TEST_ENV)  ## run the tests, and provoke every error that a lesson raises
	$(PY) -m pytest $(PARALLEL) --every-raise --durations=10 tests

check-notebooks: $(TEST_ENV)  ## run every notebook and compare every output
	$(NO_NETWORK) $(PY) -m pytest $(PARALLEL) --nbval --durations=10 $(NOTEBOOKS)

dist: $(TEST_ENV)  ## build the wheel and the sdist, and test the wheel without a clone
	rm -rf dist
	$(PY) -m hatchling build
	DIST=dist $(NO_NETWORK) $(PY) -m pytest -m "not gpu" --durations=10 tests/test_dist.py

export: $(TEST_ENV)  ## write the modules from the notebooks
	$(PY) -m course_vit export

notebooks: $(TEST_ENV)  ## run every notebook from the top and store its outputs
	COURSE_VIT_QUIET=1 $(PY) -m jupyter execute --inplace $(NOTEBOOKS)
	$(STRIP) $(NOTEBOOKS)

results: $(TEST_ENV)  ## run the long trainings and store what they find (an hour)
	$(PY) -m course_vit.kit.results

lock: $(TEST_ENV)  ## update requirements.txt from pyproject.toml
	$(PY) -m pip install --quiet uv
	$(PY) -m uv pip compile --quiet --upgrade --python-version 3.11 --python-platform \
		x86_64-unknown-linux-gnu --extra course --extra check --extra test --extra site \
		--generate-hashes --no-annotate --custom-compile-command "make lock" \
		--output-file requirements.txt pyproject.toml

clean:  ## delete the environment; the next make builds a new one
	rm -rf .venv

.venv/bin/pip:
	@$(or $(PYTHON),false) -c '$(RIGHT_PYTHON)' || { echo "This course needs Python 3.10 to \
	3.13, got $(or $(PYTHON),none). Install one, or name one: make lab PYTHON=python3.12"; exit 1; }
	$(if $(UV),$(UV) venv --seed --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)

.venv/.course: pyproject.toml | .venv/bin/pip
	@echo "Installing into .venv. The first time this takes some minutes, because torch is large."
	$(INSTALL) -e ".[course]"
	touch $@

.venv/.test: pyproject.toml | .venv/bin/pip
	$(INSTALL) -e ".[course,check,test,site]"
	touch $@ .venv/.course

.venv/.locked: pyproject.toml requirements.txt | .venv/bin/pip
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-deps -e .
	touch $@
