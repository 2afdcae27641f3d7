# make bench   sets everything up, measures, prints the table, writes run and report to runs/
# make test    sets everything up, runs the tests; make test-all also those that make environments of their own
# make wheelhouse   fetches all that set-up takes, for x86_64 and aarch64; make bench WHEELHOUSE=wheelhouse needs no network
PYTHON ?= python3
WHEELHOUSE ?=
MACHINES ?= x86_64 aarch64
FUZZ_MINUTES ?= 5
WITH ?= torch,ort,nvidia,dev
GLIBCS := 28 27 26 25 24 23 22 21 20 19 18 17
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: bench test test-all lint format clean golden campaign browser fuzz wheelhouse
.DELETE_ON_ERROR:

ifneq ($(WHEELHOUSE),)
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(abspath $(WHEELHOUSE))
endif

# A venv made from a venv sees the base interpreter's packages, not the venv's: those come by a .pth file.
# An interpreter that already has torch or onnxruntime (CUDA image, torch_npu, ROCm, onnxruntime-gpu) keeps it.
$(STAMP): pyproject.toml constraints.txt constraints-torch.txt
	@set -e; \
	has() { $(PYTHON) -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$$1') is None)"; }; \
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "moemark needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }; \
	site=""; torch="torch,"; ort="ort,"; limits="-c constraints-torch.txt"; \
	if has torch; then site="--system-site-packages"; torch=""; limits=""; echo "using this interpreter's own torch"; fi; \
	if has onnxruntime; then site="--system-site-packages"; ort=""; echo "using this interpreter's own onnxruntime"; fi; \
	if [ -n "$$site" ]; then limits="$$limits"; else limits="$$limits -c constraints.txt"; fi; \
	echo "installing into $(VENV) ..."; \
	$(PYTHON) -m venv $$site $(VENV); \
	if [ -n "$$site" ]; then \
		$(PYTHON) -c "import site, sys; sys.prefix != sys.base_prefix and print(*site.getsitepackages(), sep='\n')" \
			> "$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/_interpreter.pth"; \
	fi; \
	$(PIP) install --quiet $$limits -e ".[$$torch$${ort}nvidia,dev]"; \
	for package in torch onnxruntime; do \
		$(BIN)/python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$$package') is None)" \
			|| { echo "$$package is not seen from $(VENV): give PYTHON an interpreter that has it" >&2; exit 2; }; \
	done; \
	touch $(STAMP)

bench: $(STAMP)
	@mkdir -p runs; out=runs/bench-$$(date -u +%Y%m%dT%H%M%SZ); status=0; \
	$(BIN)/moemark run -o $$out.jsonl || status=$$?; \
	if [ -f $$out.jsonl ]; then $(BIN)/moemark report $$out.jsonl -o $$out.html; fi; \
	exit $$status

# For the tests of the report: only on a machine that is there for tests, and where it does not come they say that they are skipped.
browser:
	@if [ "$$CI" = true ] && [ "$$(id -u)" = 0 ] && ! command -v chromedriver >/dev/null && command -v apt-get >/dev/null; then \
		echo "installing chromium ..."; export DEBIAN_FRONTEND=noninteractive; \
		{ timeout 120 apt-get update && timeout 240 apt-get install -y --no-install-recommends chromium chromium-driver fonts-dejavu-core; } \
			>/dev/null 2>&1 || echo "chromium does not come by apt here: the browser tests are skipped" >&2; \
	fi

test: $(STAMP) browser
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-all: $(STAMP)
	@CI=true $(MAKE) --no-print-directory browser
	CI=true $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The long forms: ten minutes of hostile records, five by each of two processes; then how well decisions hold here, beside other
# tools. Resumable; over an hour on a quiet machine.
campaign: $(STAMP)
	$(PIP) install --quiet -c constraints.txt pyperf
	@$(BIN)/python -m benchmarks.fuzz --minutes $(FUZZ_MINUTES) --seed 1 -o runs/fuzz-1 & other=$$!; status=0; \
	$(BIN)/python -m benchmarks.fuzz --minutes $(FUZZ_MINUTES) || status=$$?; \
	wait $$other || status=$$?; exit $$status
	$(BIN)/python -m benchmarks.campaign

# 200,000 hostile records read, shown, compared, exported, verified, made pages and sites of: about half an hour.
fuzz: $(STAMP)
	$(BIN)/python -m benchmarks.fuzz

# For this Python's version, and any glibc from 2.28 on. setuptools is what an editable install builds with.
wheelhouse:
	@set -e; for machine in $(MACHINES); do \
		echo "wheels for $$machine ..."; \
		$(PYTHON) -m pip --disable-pip-version-check download --quiet --dest wheelhouse --only-binary :all: \
			$(foreach glibc,$(GLIBCS),--platform manylinux_2_$(glibc)_$$machine) --platform manylinux2014_$$machine \
			-c constraints.txt -c constraints-torch.txt "setuptools>=77" ".[$(WITH)]"; \
	done; rm -f wheelhouse/moemark-*; du -sh wheelhouse

golden: $(STAMP)
	$(BIN)/python -m seeds.golden.pin

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
