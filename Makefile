# Everything a person does with a checkout. Needs Python 3.11+, git and make; the rest it installs into .venv,
# in the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/app/*.ipynb)

# What reads the text of notebooks and of errors should see the same on every machine.
export TRANSFORMERS_VERBOSITY := error
export TRANSFORMERS_NO_ADVISORY_WARNINGS := 1
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help demo lab app test check unit long notebooks execute lint types fuzz mutate newest lock catalog catalog-check verify fields hints coverage devices times profiles accuracy bench clean chromium

help:
	@echo "make demo     install, run the quickstart notebook, show the table and where its page lies"
	@echo "make lab      open JupyterLab on the notebooks"
	@echo "make app      serve the what-if form as a page, with Voila"
	@echo "make test     install what the tests need, then unit tests, notebooks, lint and types"
	@echo "make check    the quick part of the tests: without PyTorch, browser and cluster"
	@echo "make long     what takes minutes more: every family that reads images or sound, at sizes that no probe had"
	@echo "make newest   run unit tests and notebooks with the newest allowed versions, in .venv-newest: before a release"
	@echo "make lock     write constraints.txt anew, with the newest allowed versions"
	@echo "make execute  run the notebooks and store what they show"
	@echo "make fuzz     hand in made-up formulas, templates and configs, and report what is not refused in one line"
	@echo "make mutate   change the code, one operator or constant at a time, and list what no test notices"
	@echo "make catalog  expand and check every shipped model template again (needs PyTorch, which it installs)"
	@echo "make verify   compare every shipped template with PyTorch, as it is"
	@echo "make fields   change every field of every shipped config, one at a time, and compare with PyTorch"
	@echo "make hints    take every hint for single architectures away, and see its model fail"
	@echo "make coverage try every model type of transformers, and write docs/coverage.md"
	@echo "make devices  divide every model type with a plan by two, beside transformers, and write docs/devices-coverage.md"
	@echo "make times    calibrate this machine, and compare estimated with measured times of two models (ten minutes)"
	@echo "make profiles DATA=folder   fit the shipped profiles to kernel tables (docs/profiles.md says which)"
	@echo "make accuracy DATA=folder   estimate published servers: docs/accuracy.md, and the profiles' intervals"
	@echo "make bench    measure speed, and write docs/performance.md"

demo: $(VENV)/lab
	@mkdir -p build
	@echo "running notebooks/quickstart.ipynb"
	@$(BIN)/jupyter nbconvert --to html --execute --ExecutePreprocessor.kernel_name=python3 \
	  --output-dir build --log-level ERROR notebooks/quickstart.ipynb 2>build/demo.log || { cat build/demo.log; exit 1; }
	@$(BIN)/python -m nbanalyzer --populate --model_id gpt2 --seq_len 2048 --format table
	@echo
	@echo "The notebook, run and rendered: $(CURDIR)/build/quickstart.html"

lab: $(VENV)/lab
	$(BIN)/jupyter lab notebooks

# A page of its own: notebooks/app/ has its notebook and its template.
app: $(VENV)/app
	JUPYTER_PATH=$(CURDIR)/notebooks/app $(BIN)/voila notebooks/app/whatif.ipynb --template=whatif

# Notebooks take one processor and so does mypy: they run beside each other.
test: unit
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target notebooks lint types

# A file of tests stays in one process: what it starts, such as a browser, is started once.
unit: $(VENV)/test chromium
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Left out of make test, which a person waits for.
long: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses 2 -m long

# What one runs after every few lines.
check: $(VENV)/test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -q -p no:nbval --hypothesis-profile quick --ignore tests/generate -m "not pytorch and not browser and not cluster and not slow"

# Plain nbval: every cell is run again and its output compared with what is stored.
notebooks: $(VENV)/test
	$(BIN)/python -m pytest --nbval $(NOTEBOOKS)

# For developers: run the notebooks and store what they show, without times.
execute: $(VENV)/test
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR \
	  --ExecutePreprocessor.kernel_name=python3 --ExecutePreprocessor.record_timing=False \
	  --ExecutePreprocessor.store_widget_state=False $(NOTEBOOKS) 2>/dev/null

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test
	$(BIN)/mypy

# What strangers may hand in, made up: minutes. make fuzz FUZZ="--formulas 1000000 --seed 7" looks at others.
fuzz: $(VENV)/test
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

# Mutation testing, see docs/mutation.md: hours. make mutate MUTATE="costs --sample 60 --seed 2" draws some of one room.
mutate: $(VENV)/mutate
	$(BIN)/python -m tools.mutate $(MUTATE)

# A gate before a release, not a part of `make test`: ruff and mypy are left out, whose new rules are no matter of users.
newest:
	rm -rf .venv-newest
	@$(MAKE) --no-print-directory VENV=.venv-newest CONSTRAINTS= .venv-newest/test
	@echo "other versions than those of constraints.txt:"
	@.venv-newest/bin/python tools/constraints.py differences
	@$(MAKE) --no-print-directory VENV=.venv-newest CONSTRAINTS= unit notebooks
	@echo "green with the newest versions; other than those of constraints.txt are:"
	@.venv-newest/bin/python tools/constraints.py differences

# After `make newest`; `make test` then tests what is written.
lock: $(VENV)/lab
	$(BIN)/python tools/constraints.py lock
	@git --no-pager diff --stat -- constraints.txt README.md

catalog: $(VENV)/test
	$(BIN)/python -m tools.catalog

catalog-check: $(VENV)/test
	$(BIN)/python -m tools.catalog --check

# Every shipped template as it is against PyTorch: parameters, FLOPs, bytes, state.
verify: $(VENV)/test
	$(BIN)/python -m tools.catalog --verify

# Every field of every shipped config changed, one at a time, against PyTorch: parameters and FLOPs; takes hours.
fields: $(VENV)/test
	THOROUGH=1 $(BIN)/python -m pytest tests/generate/test_validity.py --numprocesses 2

# Every row of nbanalyzer/generate/hints.py taken away, and the model that then fails; takes about five minutes.
hints: $(VENV)/test
	THOROUGH=1 $(BIN)/python -m pytest tests/generate/test_hints.py --numprocesses 2

# Every model type of transformers; takes about a quarter of an hour.
coverage: $(VENV)/test
	$(BIN)/python -m tools.coverage

# Every causal model type with a plan: one of two devices beside one rank of transformers; about a quarter of an hour.
devices: $(VENV)/test
	$(BIN)/python -m tools.devices

# What `calibrate` leads to, on this machine; a busy one takes longer, and its speed changes.
times: $(VENV)/test
	$(BIN)/python -m tools.times

# The tables are not part of this repository: docs/profiles.md says where they are from.
profiles: $(VENV)/test
	$(BIN)/python -m tools.fit_profiles $(DATA)

accuracy: $(VENV)/test
	$(BIN)/python -m tools.accuracy $(DATA)

# What it is compared with is installed beside, not into, .venv: llm-analysis wants an older transformers.
bench: $(VENV)/test
	$(BIN)/python benchmarks/notebook.py
	$(BIN)/python benchmarks/form.py
	$(BIN)/python benchmarks/start.py
	@$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/peers \
	  llm-analysis calflops accelerate fire termcolor || echo "the other tools could not be installed: not measured"
	$(BIN)/python benchmarks/sweeps.py

clean:
	rm -rf .venv .venv-newest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The browser that the rendering tests look through; they are skipped, with the reason, where there is none.
chromium:
	@command -v chromium >/dev/null 2>&1 || \
	  if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core; } >/dev/null 2>&1 \
	    || echo "chromium could not be installed: the browser tests will be skipped"; \
	  else echo "no chromium, and no apt-get as root to install it: the browser tests will be skipped"; fi

# What builds the package comes in these versions too: older pips build with PIP_CONSTRAINT, newer ones with the other.
$(VENV)/lab $(VENV)/app $(VENV)/test $(VENV)/mutate: $(VENV)/%: pyproject.toml $(CONSTRAINTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing nbanalyzer with the extra '$*' into $(VENV)"
	@$(addprefix PIP_CONSTRAINT=,$(CONSTRAINTS)) $(addprefix PIP_BUILD_CONSTRAINT=,$(CONSTRAINTS)) $(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
