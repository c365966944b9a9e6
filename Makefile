# Every target makes what it needs; PYTHON is any Python from 3.11 on.
PYTHON ?= python3
# For `bench` and `exports`: a folder of photographs (JPEG).
PHOTOGRAPHS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all test-page test-tpu screenshots exports docs bench clean

demo: $(VENV)/.train
	$(BIN)/cdml reproduce --config=configs/demo.py

test: $(VENV)/.test $(VENV)/.compiler
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

# The slow tests too: half as long again.
test-all: test
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder -m slow

# The page in Debian's Chromium (apt-get install chromium), and the trackers in their offline modes.
test-page: $(VENV)/.page
	$(BIN)/python -m pytest tests/browser/test_smoke.py tests/browser/check_page.py tests/runs/test_live.py

# Steps of every chip and structure by the TPU's own compiler, of which no TPU is needed, and their figures.
test-tpu: $(VENV)/.test $(VENV)/.compiler
	mkdir -p build
	PYTHONPATH=$(VENV)/libtpu $(BIN)/python benchmarks/tpu_steps.py --cases=gate --json=build/tpu_gate.json
	PYTHONPATH=$(VENV)/libtpu $(BIN)/python benchmarks/tpu_steps.py --cases=small --json=build/tpu_small.json
	cp build/tpu_gate.json build/tpu_small.json benchmarks/results/
	$(BIN)/python -m pytest tests/runs/compile

# The pictures of the page in docs/, of the demo's drawn birds.
screenshots: $(VENV)/.test
	$(BIN)/python docs/images/screenshots.py runs/demo-reproduce docs/images

bench: $(VENV)/.bench $(VENV)/.compiler
	$(BIN)/python benchmarks/training_step.py --json=benchmarks/results/training_step_cpu.json
	$(BIN)/python benchmarks/step_overhead.py --json=benchmarks/results/step_overhead_cpu.json
	$(BIN)/python benchmarks/collectives.py --json=benchmarks/results/collectives_cpu.json
	$(BIN)/python benchmarks/collectives.py --model --json=benchmarks/results/scaling_model.json
	$(BIN)/python benchmarks/retrieval.py --json=benchmarks/results/retrieval_cpu.json
	$(BIN)/python benchmarks/triplet_term.py --json=benchmarks/results/triplet_term_cpu.json
	$(BIN)/python benchmarks/confusion_counts.py --json=benchmarks/results/confusion_counts_cpu.json
	$(BIN)/python benchmarks/start_up.py --json=benchmarks/results/start_up_cpu.json
	test -z '$(PHOTOGRAPHS)' || $(BIN)/python benchmarks/input_pipeline.py --images='$(PHOTOGRAPHS)' \
		--resize=500x375 --json=benchmarks/results/input_pipeline_cpu.json
	-PYTHONPATH=$(VENV)/libtpu $(BIN)/python benchmarks/tpu_steps.py --json=benchmarks/results/tpu_steps.json
	-PYTHONPATH=$(VENV)/libtpu $(BIN)/python benchmarks/tpu_ideas.py --json=benchmarks/results/tpu_ideas.json
	$(BIN)/python benchmarks/write_page.py

# What an export predicts, compared with what the package predicts: in every format, of every family's smallest network.
exports: $(VENV)/.exports
	test -n '$(PHOTOGRAPHS)' || { echo 'make exports PHOTOGRAPHS=DIR: a folder of photographs'; exit 2; }
	$(BIN)/python experiments/check_exports.py --photographs='$(PHOTOGRAPHS)'

# The documentation as a site in build/site; a link that leads nowhere is an error.
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: setup.cfg constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report]'
	@touch $@

$(VENV)/.test: $(VENV)/.train
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report,test,weights,onnx,gcs]'
	@touch $@

$(VENV)/.docs: $(VENV)/.train
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report,docs]'
	@touch $@

$(VENV)/.exports: $(VENV)/.train
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report,onnx,tensorflow]'
	@touch $@

# The TPU's compiler, apart from the other packages: JAX would look for a TPU wherever it finds it. Where there is
# none for this system, its tests are skipped.
$(VENV)/.compiler: constraints.txt | $(VENV)/bin/pip
	-$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --upgrade \
		--target=$(VENV)/libtpu libtpu
	@touch $@

$(VENV)/.page: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report,test,weights,live]'
	@touch $@

# The peers; where one cannot be installed, the benchmarks name it and go on without.
$(VENV)/.bench: $(VENV)/.train
	-$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,report,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
