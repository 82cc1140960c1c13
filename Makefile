# Everything is set up by the target that needs it: one .venv, versions from requirements.lock.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements.lock
CUDA   := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p' | head -1)
GPU_EXTRA := $(if $(filter 12,$(CUDA)),cuda12,$(if $(filter 13 14,$(CUDA)),cuda13,))
CC_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1)
# A100, Orin, H100, B200 and Thor are not among the GPUs that TensorRT for RTX knows
TENSORRT := $(if $(filter 8.0 8.7 9.0 10.0 10.3 11.0,$(CC_GPU)),trt,rtx)
# what a GPU needs besides the runtime: its bindings, TensorRT, and what builds plans
GPU_EXTRAS := .[$(GPU_EXTRA),$(TENSORRT),build]
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(LOCK)

.PHONY: demo test test-full lint sanitize bench gpu clean
.DEFAULT_GOAL := demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 14) else f"make: wanted Python 3.10 to 3.13, got {v[0]}.{v[1]}; name another one: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo 'make: wanted the module ensurepip, got none; install the package python3-venv' >&2; exit 1; }
	@c++ --version >/dev/null 2>&1 || g++ --version >/dev/null 2>&1 || { echo 'make: wanted a C++ compiler, got none; install the package g++' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "make: $(if $(GPU_EXTRA),NVIDIA driver with CUDA $(CUDA) found: installing the extra $(GPU_EXTRA),no NVIDIA driver found: installing for the CPU)"
	$(PIP) --editable .
	@# the lock is resolved with CUDA 13's packages; those of CUDA 12 are other versions of the same names
	$(if $(filter cuda13,$(GPU_EXTRA)),$(PIP) --editable "$(GPU_EXTRAS)",)
	$(if $(filter cuda12,$(GPU_EXTRA)),$(BIN)/python -m pip install --quiet --editable "$(GPU_EXTRAS)",)
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK) | $(BIN)/python
	$(PIP) --editable ".[dev]"
	@touch $@

demo: $(VENV)/.runtime  ## swap the face in the sample clip, on the GPU where there is one
	@# the runtime never builds: plans come first, and a GPU that no plan can be built for leaves the CPU
ifneq ($(GPU_EXTRA),)
	if $(BIN)/python -m build_engines tiny_sharp; then $(BIN)/python -m engine demo; \
	else echo 'make: no plans for this GPU, so the demo runs on the CPU'; $(BIN)/python -m engine demo --backend cpu; fi
else
	$(BIN)/python -m engine demo
endif

lint: $(VENV)/.dev  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# the newest NumPy and PyAV for 3.10 have other stubs; types are checked on 3.11 and later
	if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then $(BIN)/mypy; else echo 'lint: mypy runs on Python 3.11 and later'; fi
	$(BIN)/lint-imports

test: $(VENV)/.dev lint  ## what CI runs
	$(BIN)/pytest -m "not full and not benchmark_suite"

test-full: $(VENV)/.dev lint  ## everything, the sanitizers in full included
	$(BIN)/pytest -m "not benchmark_suite"
	$(MAKE) sanitize

sanitize: $(VENV)/.dev  ## kernels under ThreadSanitizer, AddressSanitizer and UBSan
	$(BIN)/python -m kernels.sanitize

bench: $(VENV)/.dev  ## timings of kernels and pipeline beside the reference flow
	$(BIN)/pytest -m benchmark_suite tests/benchmark

gpu: $(VENV)/.runtime $(VENV)/.dev  ## on a machine with an NVIDIA GPU: parity and GPU tests, then its figures into profiles/measured
	REQUIRE_GPU=1 $(BIN)/pytest tests/parity tests/gpu
	$(BIN)/python -m tests.gpu.measure tiny --write profiles/measured/gpu_tiny.json
	$(BIN)/python -m tests.gpu.measure swap_1080p30 --twins --write profiles/measured/gpu_swap_1080p30.json

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
