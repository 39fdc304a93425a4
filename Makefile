# The commands of the README. Everything is installed into $(VENV), made if missing.
PYTHON ?= python3
VENV ?= .venv
# The versions that are taken; CONSTRAINTS= takes the newest of everything.
CONSTRAINTS ?= constraints.txt
RUN = $(VENV)/bin/python -m
DEMO_OUT ?= runs/demo

.PHONY: demo test test-core test-file test-heavy test-all test-slow lint types bench figures house notebooks docs dist colab constraints clean

demo: $(VENV)/.with-demo
	$(RUN) jaxdeep compare --data digits --epochs 20 --out $(DEMO_OUT)

test: $(VENV)/.with-test
	$(RUN) pytest -q -n auto

test-file: $(VENV)/.with-test
	$(if $(F),,$(error name a file: make test-file F=jaxdeep/nn/conv.py))
	$(VENV)/bin/python tests/helpers/mirror.py $(F) $(ARGS)

# The core, quickly: what a version of JAX, Flax, NumPy or SciPy would break first.
CORE = tests/test_tree.py tests/test_schedules.py tests/optimizers/test_identity.py tests/nn/test_linear.py \
	tests/nn/test_layer.py tests/train/test_options.py tests/fitting/test_fit.py tests/saving/test_earlier_files.py \
	tests/search/spaces/test_samplers.py

test-core: $(VENV)/.with-test
	$(RUN) pytest -q -n auto $(CORE)

# In two goes: programs stay in memory, and those of all of the heavy tests are too many for one process.
RUNS = tests/cli tests/comparison tests/fitting tests/search

test-heavy: $(VENV)/.with-test
	$(RUN) pytest -q -n auto -m heavy $(RUNS)
	$(RUN) pytest -q -n auto -m heavy $(addprefix --ignore=,$(RUNS))

test-all: test test-heavy

test-slow: $(VENV)/.with-bench $(VENV)/.with-test
	$(RUN) pytest -q -m slow

lint: $(VENV)/.with-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.with-dev
	$(RUN) mypy

bench: $(VENV)/.with-bench
	$(RUN) benchmarks.throughput
	$(RUN) benchmarks.update
	$(RUN) benchmarks.layers
	$(RUN) benchmarks.sweep
	$(RUN) benchmarks.cross_validation
	$(RUN) benchmarks.compare_by_hand
	$(RUN) benchmarks.tables
	$(RUN) benchmarks.table_train
	$(RUN) benchmarks.streaming
	$(RUN) benchmarks.predict
	$(RUN) benchmarks.mc_dropout
	$(RUN) benchmarks.resume
	$(RUN) benchmarks.hyperband
	$(RUN) benchmarks.compress
	$(RUN) benchmarks.population
	$(RUN) benchmarks.pretraining

figures: $(VENV)/.with-demo
	$(VENV)/bin/python docs/figures.py

house: $(VENV)/.with-demo
	$(VENV)/bin/python docs/house.py

notebooks: $(VENV)/.with-notebooks
	$(VENV)/bin/python notebooks/build.py

# The site, in site/, to be read from disk or put anywhere.
docs: $(VENV)/.with-docs
	$(VENV)/bin/python docs/build_site.py

# The archive and the wheel in dist/, tried in fresh environments: the core, each extra (EXTRAS= names some), the README.
dist: $(VENV)/.made
	EXTRAS="$(EXTRAS)" CONSTRAINTS="$(CONSTRAINTS)" $(VENV)/bin/python .ci/dist.py

# Notebook 10 from the wheel, with the versions of Colab.
colab: $(VENV)/.made
	$(VENV)/bin/python .ci/colab.py

# Newer versions for everyone, to be tested and committed.
constraints: $(VENV)/.made
	$(RUN) pip install --quiet --disable-pip-version-check uv
	PATH="$(abspath $(VENV))/bin:$$PATH" .ci/constraints

clean:
	rm -rf $(VENV) .cache runs build dist site

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "jaxdeep needs Python 3.11 or newer: make … PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# An extra is installed again when the dependencies or their versions change, and only then.
# Python compiles what is imported, when it is: compiling everything before doubles the time of an installation.
$(VENV)/.with-demo: EXTRA = datasets,plot,checkpoint,report
$(VENV)/.with-test: EXTRA = test
$(VENV)/.with-dev: EXTRA = dev
$(VENV)/.with-bench: EXTRA = bench
$(VENV)/.with-notebooks: EXTRA = notebooks
$(VENV)/.with-docs: EXTRA = docs
$(VENV)/.with-%: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(RUN) pip install --quiet --no-compile --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) --editable '.[$(EXTRA)]'
	@touch $@
