# Everything a person does with a checkout. Needs Python 3.11+, git and make; the rest it installs into .venv.
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb)

# What reads the text of notebooks and of errors should see the same on every machine.
export TRANSFORMERS_VERBOSITY := error
export TRANSFORMERS_NO_ADVISORY_WARNINGS := 1
export HF_HUB_OFFLINE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo lab app test unit notebooks execute lint types fuzz catalog catalog-check verify coverage bench clean chromium

help:
	@echo "make demo     install, run the quickstart notebook, show the table and where its page lies"
	@echo "make lab      open JupyterLab on the notebooks"
	@echo "make app      serve the what-if form as a page, with Voila"
	@echo "make test     install what the tests need, then unit tests, notebooks, lint and types"
	@echo "make execute  run the notebooks and store what they show"
	@echo "make fuzz     hand in made-up formulas, templates and configs, and report what is not refused in one line"
	@echo "make catalog  expand and check every shipped model template again (needs PyTorch, which it installs)"
	@echo "make verify   compare every shipped template with PyTorch, as it is"
	@echo "make coverage try every model type of transformers, and write docs/coverage.md"
	@echo "make bench    measure speed, and write docs/performance.md"

demo: .venv/lab
	@mkdir -p build
	@echo "running notebooks/quickstart.ipynb"
	@$(BIN)/jupyter nbconvert --to html --execute --ExecutePreprocessor.kernel_name=python3 \
	  --output-dir build --log-level ERROR notebooks/quickstart.ipynb 2>build/demo.log || { cat build/demo.log; exit 1; }
	@$(BIN)/python -m nbanalyzer --populate --model_id gpt2 --seq_len 2048 --format table
	@echo
	@echo "The notebook, run and rendered: $(CURDIR)/build/quickstart.html"

lab: .venv/lab
	$(BIN)/jupyter lab notebooks

app: .venv/app
	$(BIN)/voila notebooks/whatif.ipynb

test: unit notebooks lint types

# A file of tests stays in one process: what it starts, such as a browser, is started once.
unit: .venv/test chromium
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Plain nbval: every cell is run again and its output compared with what is stored.
notebooks: .venv/test
	$(BIN)/python -m pytest --nbval $(NOTEBOOKS)

# For developers: run the notebooks and store what they show, without times.
execute: .venv/test
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR \
	  --ExecutePreprocessor.kernel_name=python3 --ExecutePreprocessor.record_timing=False \
	  --ExecutePreprocessor.store_widget_state=False $(NOTEBOOKS) 2>/dev/null

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

# What strangers may hand in, made up: minutes. make fuzz FUZZ="--formulas 1000000 --seed 7" looks at others.
fuzz: .venv/test
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

catalog: .venv/test
	$(BIN)/python -m nbanalyzer.generate.catalog

catalog-check: .venv/test
	$(BIN)/python -m nbanalyzer.generate.catalog --check

# Every shipped template as it is against PyTorch: parameters, FLOPs, bytes, state.
verify: .venv/test
	$(BIN)/python -m nbanalyzer.generate.catalog --verify

# Every model type of transformers; takes about a quarter of an hour.
coverage: .venv/test
	$(BIN)/python -m nbanalyzer --coverage

# What it is compared with is installed beside, not into, .venv: llm-analysis wants an older transformers.
bench: .venv/test
	$(BIN)/python benchmarks/notebook.py
	$(BIN)/python benchmarks/form.py
	@$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/peers \
	  llm-analysis calflops accelerate fire termcolor || echo "the other tools could not be installed: not measured"
	$(BIN)/python benchmarks/sweeps.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The browser that the rendering tests look through; they are skipped, with the reason, where there is none.
chromium:
	@command -v chromium >/dev/null 2>&1 || \
	  if command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core; } >/dev/null 2>&1 \
	    || echo "chromium could not be installed: the browser tests will be skipped"; \
	  else echo "no chromium, and no apt-get as root to install it: the browser tests will be skipped"; fi

.venv/lab .venv/app .venv/test: .venv/%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing nbanalyzer with the extra '$*' into .venv"
	@$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
