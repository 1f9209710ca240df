# npu_sim's everyday commands. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# Everything that is installed is pinned to the versions that were tested.
CONSTRAINTS := -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv build wheel-macos demo test test-gpu lint format pages models fuzz fuzz-ops families bench bench-llm bench-native bench-metal metal-standin mutate-metal asan clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(VENV)/.base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(CONSTRAINTS) pip
	$(PIP) install -q $(CONSTRAINTS) scikit-build-core nanobind cmake ninja \
	    numpy ml_dtypes safetensors typer rich torch
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) install -q $(CONSTRAINTS) pytest pytest-timeout pytest-xdist hypothesis ruff mypy clang-format pre-commit \
	    nvidia-cuda-nvrtc ziglang pillow matplotlib transformers tokenizers jinja2
	@touch $@

$(VENV)/.llm: $(VENV)/.base
	$(PIP) install -q $(CONSTRAINTS) transformers tokenizers jinja2
	@touch $@

$(VENV)/.bench: $(VENV)/.base
	$(PIP) install -q $(CONSTRAINTS) openvino onnxruntime onnx onnxscript matplotlib
	@touch $@

venv: $(VENV)/.base  ## the virtual environment, without the package

build: $(VENV)/.base  ## build and install the package (editable; a rebuild takes seconds)
	$(PIP) install -q --no-build-isolation --no-deps -e .

demo: build $(VENV)/.llm  ## ResNets from PyTorch to logits, then a small language model is trained and writes a text
	$(BIN)/npu-sim demo
	$(BIN)/python examples/train_small_lm.py --quick -o demo_out/small_lm
	$(BIN)/npu-sim generate demo_out/small_lm "One morning" --temperature 0.7 --seed 1

wheel-macos: $(VENV)/.dev  ## the macOS arm64 wheel, cross-built on Linux (zig, ld64.lld 16), into dist/
	$(BIN)/python -m tools.macos.wheel
	$(BIN)/python -m pytest tests/wheel

test: $(VENV)/.dev build  ## the whole test suite, on all cores
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-gpu: $(VENV)/.dev build  ## the shaders on an NVIDIA GPU, through NVRTC, and under compute-sanitizer
	$(BIN)/python -m pytest tests/gpu

lint: $(VENV)/.dev  ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files '*.cpp' '*.hpp' '*.h' '*.metal' | xargs $(BIN)/clang-format --dry-run -Werror

format: $(VENV)/.dev  ## format Python and C++
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files '*.cpp' '*.hpp' '*.h' '*.metal' | xargs $(BIN)/clang-format -i

pages: $(VENV)/.dev build  ## the generated pages of docs/ that need no measurement
	$(BIN)/python tools/generate_operator_docs.py
	$(BIN)/python -m tests.docs.ladder
	$(BIN)/python -m tests.docs.api --write docs/torch-ir/api/index.md

models: $(VENV)/.dev build  ## every model family on the NPU (minutes); writes docs/models.md
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.families.on_npu --write docs/models.md

# How long the night modes run, and where they begin: MINUTES=600 SEED=1000000.
MINUTES ?= 60
SEED ?= $(shell date +%s)

fuzz: $(VENV)/.dev build  ## random graphs against PyTorch for MINUTES; failures are made small
	$(BIN)/python -m tests.fuzz graphs --seed $(SEED) --count 1000000000 --minutes $(MINUTES)

fuzz-ops: $(VENV)/.dev build  ## every operator with random arguments against PyTorch for MINUTES
	$(BIN)/python -m tests.fuzz ops --seed $(SEED) --count 1000000000 --minutes $(MINUTES)

families: $(VENV)/.dev build  ## every model family through torch_ir (minutes); writes docs/torch-ir/models.md
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.families --write docs/torch-ir/models.md

bench: build $(VENV)/.bench bench-native  ## microbenchmarks, then the ResNets beside their peers
	$(BIN)/npu-sim bench resnet18 --against torch,onnxruntime,openvino
	$(BIN)/npu-sim bench resnet50 --against torch,onnxruntime,openvino

bench-llm: build $(VENV)/.bench $(VENV)/.llm  ## Qwen2.5-1.5B at full size beside its peers (a quarter of an hour, 26 GB); JSON and chart in docs/
	@mkdir -p docs/images
	$(BIN)/npu-sim bench qwen2.5-1.5b --random-weights --against torch,torch-compile,openvino,llama.cpp --sweep --rounds 6 \
	    --chart docs/images/qwen2.5-1.5b.svg --json > docs/images/qwen2.5-1.5b.json
	$(BIN)/npu-sim bench qwen2.5-1.5b --random-weights --weight-dtype int8

bench-native: build  ## C++ microbenchmarks
	$(BIN)/cmake -G Ninja -S . -B build/bench -DNPU_SIM_PYTHON=OFF -DNPU_SIM_BUILD_BENCHMARKS=ON \
	    -DPython_EXECUTABLE=$(abspath $(BIN)/python) -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja)
	$(BIN)/cmake --build build/bench --target npu_bench
	build/bench/benchmarks/native/npu_bench

metal-standin: $(VENV)/.dev build  ## build the Metal stand-in (Linux): export NPU_SIM_METAL_STANDIN=$(make -s metal-standin)
	@$(BIN)/python -c "from tests.metal_standin.standin import built; print(built('npu_metal_standin'))"

mutate-metal: $(VENV)/.dev build  ## take each guard of cpp/metal out in turn: a test must fail (Linux, half an hour)
	$(BIN)/python -m tests.metal_standin.mutate

bench-metal: $(VENV)/.dev build  ## host cost of the Metal device's dispatches, over its stand-in (Linux; instructions with valgrind)
	$(BIN)/python -c "from tests.metal_standin.standin import built; print(built('npu_bench_metal'))" | xargs sh -c '"$$0"'
	$(BIN)/python -m benchmarks.metal.instructions

asan: $(VENV)/.dev  ## build with address and undefined-behaviour sanitizers and run the native tests
	$(BIN)/python -m pytest tests/sanitizers

clean:  ## remove what was built (not the virtual environment)
	rm -rf build dist demo_out reports
