# Two commands do the main things: `make app` and `make test`. Both set up .venv first, and only the first time.
# Another Python: make app PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
CONFIG ?= training/configs/efficientnet_lite0.yaml
OUT ?= runs
DATA ?=
HTML ?= demo.html
ARGS ?=

# A stamp carries the checksum of its requirements: it is made after an install that went well, and a changed file asks
# for another one, whatever the clocks say.
checksum = $(shell cksum < $(1) | cut -d ' ' -f 1)
RUNTIME := $(VENV)/.runtime-$(call checksum,requirements.txt)
DEV := $(VENV)/.dev-$(call checksum,requirements-dev.txt)
PIP := $(PY) -m pip install --disable-pip-version-check

.PHONY: help app test check format demo screenshots weights head
.DEFAULT_GOAL := help

help:
	@echo "make app      open the app on http://127.0.0.1:8501 (installs what it needs into .venv the first time)"
	@echo "make test     run all tests (ARGS='-k cli -x' goes to pytest)"
	@echo "make check    lint, formatting and types"
	@echo "make format   put the formatting right"
	@echo "make demo     the whole job on the demo images without a browser; writes $(HTML)"
	@echo "make screenshots   make the pictures of README.md again, in docs/ (needs a Chromium)"
	@echo "make weights DATA=FOLDER   make the bundled Vision Transformer and its head again (hours on a CPU)"
	@echo "make head DATA=FOLDER CONFIG=FILE   train the head of another backbone, see training/README.md"

app: $(RUNTIME)
	$(PY) -m streamlit run app.py $(ARGS)

test: $(RUNTIME) $(DEV)
	$(PY) -m pytest $(ARGS)

check: $(RUNTIME) $(DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(DEV)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

demo: $(RUNTIME)
	$(PY) -m pvu demo --html $(HTML)

screenshots: $(RUNTIME) $(DEV)
	$(PY) -m scripts.screenshots

# Each step goes on where it was stopped. The last one's files are what pvu/weights/ holds.
weights: VIT := training/configs/hybrid_vit
weights: MADE = hybrid-vit@$(OUT)/hybrid-vit/hybrid-vit.safetensors
weights: $(RUNTIME)
	@test -n "$(DATA)" || { echo "Say where the training images are: make weights DATA=FOLDER"; exit 2; }
	$(PY) -m training.hybrid.maps $(VIT).yaml --data "$(DATA)" --out $(OUT)/maps
	$(PY) -m training.hybrid.distill $(VIT).yaml --maps $(OUT)/maps --out $(OUT)/hybrid-vit
	$(PY) -m training.hybrid.cache $(VIT)_head.yaml --model $(MADE) --data "$(DATA)" --maps $(OUT)/maps \
		--out $(OUT)/hybrid-vit/cache
	$(PY) -m training.pretrain $(VIT)_head.yaml --model $(MADE) --cache $(OUT)/hybrid-vit/cache --out $(OUT)/hybrid-vit

head: $(RUNTIME)
	@test -n "$(DATA)" || { echo "Say where the training images are: make head DATA=FOLDER"; exit 2; }
	$(PY) -m training.cache $(CONFIG) --data "$(DATA)" --out $(OUT)/$(basename $(notdir $(CONFIG)))/cache
	$(PY) -m training.pretrain $(CONFIG) --cache $(OUT)/$(basename $(notdir $(CONFIG)))/cache \
		--out $(OUT)/$(basename $(notdir $(CONFIG)))

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "pvu needs Python 3.11 or newer, \
	this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUNTIME): | $(PY)
	@echo "Installing what pvu needs into $(VENV) (once, some minutes)"
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --editable .
	@rm -f $(VENV)/.runtime-* && touch $@

$(DEV): | $(PY)
	@echo "Installing the developers' tools into $(VENV) (once)"
	$(PIP) -r requirements-dev.txt
	@rm -f $(VENV)/.dev-* && touch $@
