# make serve sets up and runs the service; make test sets up and runs every test. A clone alone suffices for all of it.
.DEFAULT_GOAL := help
.PHONY: coverage mutants simulate help setup serve test lint pin-images audit sbom demo bench load chaos soak fuzz wheel libgate client lock clean

PYTHON ?= python3
BIN := .venv/bin
# Options of `gate serve`, of pytest, and of the load and bench programs: make serve ARGS="--http 0.0.0.0:8080"
ARGS ?=
# Tests wait for servers most of the time, so four share two cores; every server has a port and a directory of its own.
TEST_PROCESSES ?= 4

help:
	@echo "make serve   set up and run the service (ARGS=\"--http HOST:PORT ...\")"
	@echo "make test    set up and run every test   (ARGS=\"tests/core -k ban\")"
	@echo "make lint    style, types, layers, sizes"
	@echo "make demo    on real data               make load   locust"
	@echo "make bench   peers side by side         (ARGS=--quick: under two minutes)"
	@echo "make chaos   faults by a seed, and a judge of every answer (SEED=1 MINUTES=3 NODES=3 RATE=60)"
	@echo "make simulate  schedules of faults in virtual time, by a seed (SEED=1 MINUTES=10)"
	@echo "make soak    does anything grow in half an hour (MINUTES=30)    make fuzz  random input for all parsers (SECONDS=60)"
	@echo "make coverage  branches that tests and their processes reach, with floors (long; ARGS=python: one slice again)"
	@echo "make mutants   does a test fail if the code of a decision is changed (long)"
	@echo "make wheel   wheels with the compiled core, for x86-64 and arm64 Linux, in dist"
	@echo "make libgate the C library for programs in other languages: build/libgate.so, build/libgate.a, build/gate.h"
	@echo "make client  the npm package of the WebSocket's client: build/gate-client-VERSION.tgz"
	@echo "make audit   known vulnerabilities of the dependencies    make sbom   a list of them in CycloneDX"
	@echo "make pin-images  write the digests of container images into deploy"
	@echo "make setup   only create .venv          make lock   pin the newest releases make clean"

COMPILED := setup.py $(wildcard gate/native/*.c gate/native/*.h gate/native/*.pyx)
# The stamps lie inside .venv, so that removing .venv removes them. The dev lock contains the runtime lock.
.venv/.runtime-stamp: requirements.lock pyproject.toml scripts/make-venv $(COMPILED)
	@test -e .venv/.dev-stamp || scripts/make-venv requirements.lock
	@touch $@

.venv/.dev-stamp: requirements-dev.lock pyproject.toml scripts/make-venv $(COMPILED)
	@scripts/make-venv requirements-dev.lock
	@touch $@ .venv/.runtime-stamp

setup: .venv/.dev-stamp

serve: .venv/.runtime-stamp
	@exec $(BIN)/gate serve $(ARGS)

test:
	@scripts/announce-tests
	@$(MAKE) --no-print-directory setup
	@scripts/install-test-tools
	@scripts/install-sdks
	@scripts/install-clients
	@scripts/run-tests $(TEST_PROCESSES) $(ARGS)

lint: .venv/.dev-stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/lint
	@scripts/lint-deploy

demo: .venv/.dev-stamp
	$(BIN)/python -m demo $(ARGS)

bench: .venv/.dev-stamp
	@scripts/install-test-tools
	@scripts/install-bench-tools
	$(BIN)/python -m loadtests.compare $(ARGS)

load: .venv/.dev-stamp
	$(BIN)/python -m loadtests.run $(ARGS)

# Of chaos and soak: SEED= (chaos draws one of its own), MINUTES=, NODES=, RATE= (faults a minute). Of fuzz: SECONDS= a target.
SECONDS ?= 60
# Chaos begins with the compiled core under the sanitizers (FUZZ_SECONDS=0 leaves that out).
FUZZ_SECONDS ?= 600
# Then the models of acknowledgement are searched at large bounds (MODELS=0 leaves that out).
MODELS ?= 1
chaos: .venv/.dev-stamp
	@scripts/install-test-tools
	@[ $(FUZZ_SECONDS) = 0 ] || GATE_FUZZ_SECONDS=$(FUZZ_SECONDS) GATE_TEST_SEED=$(or $(SEED),$$(date +%s)) \
		$(BIN)/python -m pytest -q tests/native/test_fuzzed.py
	@[ $(MODELS) = 0 ] || GATE_MODEL=large $(BIN)/python -m pytest -q tests/model
	$(BIN)/python -m loadtests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(NODES),--nodes $(NODES)) $(if $(RATE),--rate $(RATE)) $(ARGS)

# Schedules by seed in virtual time, on real servers, until one breaks a promise: SEED=, MINUTES=
simulate: .venv/.dev-stamp
	@scripts/install-test-tools
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

soak: .venv/.dev-stamp
	@scripts/install-test-tools
	$(BIN)/python -m loadtests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(NODES),--nodes $(NODES)) $(ARGS)

# Then the random tests of `make test` at larger numbers (EXAMPLES=0 leaves that out).
EXAMPLES ?= 1
fuzz: .venv/.dev-stamp
	$(BIN)/python -m loadtests.fuzz --seconds $(SECONDS) $(ARGS)
	@[ $(EXAMPLES) = 0 ] || GATE_TEST_EXAMPLES=20 GATE_FUZZ_EXAMPLES=30 GATE_TEST_SEED=$(or $(SEED),$$(date +%s)) \
		$(BIN)/python -m pytest -q --timeout 3600 -n $(TEST_PROCESSES) tests/core tests/replica/test_reading.py \
		tests/replica/test_list_numbers.py tests/wire/test_resp_equivalence.py tests/wire/test_connection.py \
		tests/native/test_answers.py tests/native/test_rules.py tests/http/test_openapi_fuzzed.py

# The slices of tests and the floors are in scripts/coverage-floors.
coverage: .venv/.quality-stamp
	@scripts/install-test-tools
	@scripts/coverage-floors $(TEST_PROCESSES) $(ARGS)

mutants: .venv/.quality-stamp
	@scripts/install-test-tools
	@$(BIN)/python -m scripts.mutants $(ARGS)

.venv/.quality-stamp: requirements-quality.lock .venv/.dev-stamp
	@scripts/venv-pip install -qq --disable-pip-version-check --require-hashes --only-binary=:all: -r requirements-quality.lock
	@touch $@

# Their compiler is installed in .venv/wheel-tools, as requirements-wheel.lock pins it.
wheel: .venv/.runtime-stamp
	@$(BIN)/python scripts/make_wheels.py

libgate: build/libgate.so

build/libgate.so: scripts/make-libgate $(wildcard gate/native/*.c gate/native/*.h)
	@scripts/make-libgate build
	@echo "built build/libgate.so, build/libgate.a and build/gate.h: see docs/in-process.md"

# The page at /client/ loads the same file.
client:
	@echo "built $$(scripts/make-client build): see docs/web-page.md"
	@cmp -s build/client/dist/index.js gate/http/client/page/gate-client.js || cp build/client/dist/index.js gate/http/client/page/gate-client.js

# Are vulnerabilities of the pinned dependencies known? Status 2 if the feed can't be reached (ARGS="requirements-dev.lock").
audit: .venv/.quality-stamp
	@$(BIN)/python -m scripts.audit $(ARGS)

# The dependencies of a release with their hashes, in CycloneDX; checked against its schema before it is written.
sbom: .venv/.quality-stamp
	@mkdir -p build
	@PYTHONWARNINGS=ignore::UserWarning $(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--mc-type application --spec-version 1.6 --output-format JSON --output-reproducible --validate \
		--output-file build/gate.cdx.json
	@echo "wrote build/gate.cdx.json"

# Writes the digests of the container images into deploy: needs docker, skopeo or crane, and the registry.
pin-images:
	@$(PYTHON) -m scripts.pin_images

# The runtime lock is cut from the dev lock, so that the two never disagree.
lock:
	@scripts/lock

clean:
	rm -rf .venv tests/conformance/node/node_modules client/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build dist
