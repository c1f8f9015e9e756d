# Needs Python >= 3.11 with pip, and make. Everything else goes to .venv, in locked versions.

PY ?= python3
ARGS ?=
WORKERS ?= auto# processes that run tests; 0: none beside pytest's own

BIN := .venv/bin
PIP := $(PY) -m pip --python $(BIN)/python --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes -r
LINK := $(PIP) install --no-deps --no-build-isolation -e .

.PHONY: serve test lint types tests deep mutants bench compare codecs routing recording growth streams workers compiled test-compiled lock clean

serve: .venv/serve.stamp  ## run the gateway; flags in ARGS
	@exec $(BIN)/gwproto serve $(ARGS)

test: lint types tests  ## everything that must hold

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test.stamp
	$(BIN)/mypy

tests: .venv/test.stamp  ## the tests, and that they reach every branch of the core; flags in ARGS
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	$(BIN)/coverage report --fail-under=100

deep: .venv/test.stamp  ## 10,000 examples for every decoder, 500 for every endpoint; takes minutes; flags in ARGS
	HYPOTHESIS_PROFILE=deep $(BIN)/pytest tests/test_wire_bad_input.py tests/test_schemathesis.py $(ARGS)

mutants: .venv/test.stamp  ## whether the tests notice seeded breaks of the core; takes minutes; flags in ARGS
	cd tests && ../$(BIN)/python -m mutants $(ARGS)

bench: .venv/serve.stamp  ## CPU per request and per chunk beside a reference; flags in ARGS
	$(BIN)/python -m benchmarks.overhead $(ARGS)

compare: .venv/serve.stamp  ## gateways beside each other, those that are installed; flags in ARGS
	$(BIN)/python -m benchmarks.compare $(ARGS)

codecs: .venv/serve.stamp  ## CPU of the wire formats, per request and per chunk; flags in ARGS
	$(BIN)/python -m benchmarks.codecs $(ARGS)

routing: .venv/serve.stamp  ## CPU of choosing targets, and how it grows with their number; flags in ARGS
	$(BIN)/python -m benchmarks.routing $(ARGS)

recording: .venv/serve.stamp  ## what records and metrics cost, and what faults of their store do; flags in ARGS
	$(BIN)/python -m benchmarks.recording $(ARGS)

growth: .venv/serve.stamp  ## what more targets, open streams and longer prompts add to a request; flags in ARGS
	$(BIN)/python -m benchmarks.growth $(ARGS)

streams: .venv/serve.stamp  ## 2000 streams on one worker: memory, and how late events are; flags in ARGS
	$(BIN)/python -m benchmarks.streams $(ARGS)

workers: .venv/serve.stamp  ## how much more two workers serve than one; flags in ARGS
	$(BIN)/python -m benchmarks.workers $(ARGS)

compiled: .venv/compile.stamp  ## the hot modules as C extensions, in build/compiled; needs a C compiler and Python's headers
	rm -rf build/compiled
	HATCH_BUILD_HOOKS_ENABLE=1 $(PIP) install --no-deps --no-build-isolation --target build/compiled .

test-compiled: .venv/test.stamp compiled  ## tests of what is compiled; flags in ARGS
	$(BIN)/pytest -o pythonpath="build/compiled . runtimes tests" -m "not interpreted" -n $(WORKERS) --dist worksteal \
		$(COMPILED_TESTS) $(ARGS)

COMPILED_TESTS := $(patsubst %,tests/test_%.py,compiled scenarios scenarios_split scenarios_cancelled gears sse exchange \
	exchange_limits single_flight hedging gateway keys simulator rotation routing_router routing_health routing_plan routing_quota \
	routing_lineup policy_auth policy_ratelimit wire_goldens wire_stream wire_completion wire_request wire_errors wire_normalise \
	wire_thinking journal_replay codec_requests codec_responses io_http1 io_http1_server io_chunked pool asyncio_connection \
	asyncio_driver asyncio_server asyncio_upstream ops_records ops_store ops_metrics)

screenshots: .venv/test.stamp  ## the pictures of docs/console.md; needs Debian's chromium
	cd tests && ../$(BIN)/python -m screenshots

lock:  ## renew the locked versions; needs uv
	printf 'hatchling>=1.27\n' | uv pip compile $(LOCKING) --extra test --output-file tests/requirements.txt pyproject.toml -
	printf 'hatchling>=1.27\n' | uv pip compile $(LOCKING) --extra quart --extra trio --extra cli --extra fast --constraints tests/requirements.txt \
		--output-file runtimes/requirements.txt pyproject.toml -
	printf 'mypy[mypyc]>=1.15\n' | uv pip compile $(LOCKING) --constraints tests/requirements.txt \
		--output-file runtimes/compiling.txt -

LOCKING := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --custom-compile-command "make lock"

clean:
	rm -rf .venv

.venv/bin/python:
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gwproto needs Python 3.11 or newer; PY=... names one")'
	$(PY) -m venv --without-pip .venv

.venv/serve.stamp: runtimes/requirements.txt pyproject.toml | .venv/bin/python
	$(INSTALL) $<
	$(LINK)
	@touch $@

.venv/compile.stamp: runtimes/compiling.txt .venv/serve.stamp
	$(INSTALL) $<
	@touch $@

.venv/test.stamp: tests/requirements.txt pyproject.toml | .venv/bin/python
	$(INSTALL) $<
	$(LINK)
	@touch $@ .venv/serve.stamp .venv/compile.stamp
