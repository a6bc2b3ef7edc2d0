# The front door. `make run` shows it, `make test` proves it; `make help` lists the rest.
# Every target installs what it lacks first (scripts/bootstrap.sh says what and how).

SHELL := /bin/sh
BOOTSTRAP := scripts/bootstrap.sh
PRESET ?= release
# On in CI: warnings are errors.
OLLY_WERROR ?= OFF
GO_VERSIONS ?= 1.18.10 1.19.13 1.20.14 1.21.13 1.22.12 1.23.12 1.24.9 1.25.3 1.26.0 1.27.0
CONFIGURE = cmake --preset $(1) -DOLLY_WERROR=$(OLLY_WERROR) --log-level=WARNING >/dev/null

.PHONY: help run test all build hook hook-macos test-harm test-harm-long test-go-versions clean test-coverage lint docs bench fuzz test-kernel

help:
	@echo 'make run            build, then a demo of two services under Olly; Ctrl-C ends it (DEMO_TLS=1: over TLS)'
	@echo 'make test           every test that needs no special hardware'
	@echo 'make all            build + hook'
	@echo 'make build          the agent: build/olly'
	@echo 'make hook           libolly.so: build/libolly.so'
	@echo 'make hook-macos     libolly.dylib for both of macOS'\'' architectures: build/macos/ (untried: it is built, not run)'
	@echo 'make test-harm      the harm suite alone: programs under libolly.so behave as without it'
	@echo 'make test-harm-long the same with whole test suites of other programs (a quarter of an hour)'
	@echo 'make test-go-versions  TLS of programs of every Go that is known: GO_VERSIONS, fetched'
	@echo 'make clean          removes build/'
	@echo 'make test-coverage  unit and replay tests with line coverage'
	@echo 'make lint           format, clang-tidy, room borders, shell scripts'
	@echo 'make docs           writes the parts of the documents that are made from the sources'
	@echo 'make bench          the benchmarks, as one table'
	@echo 'make fuzz           the fuzz targets, FUZZ_SECONDS each (60)'
	@echo 'make test-kernel    the kernel tests on a Debian 6.1 kernel under QEMU'

all: build hook

hook:
	@$(BOOTSTRAP) build
	@$(call CONFIGURE,$(PRESET))
	@cmake --build build/$(PRESET) --target olly_preload
	@scripts/install-atomically.sh build/$(PRESET)/libolly.so build/libolly.so

hook-macos:
	@scripts/macos-library.sh build/macos

build:
	@$(BOOTSTRAP) build
	@$(call CONFIGURE,$(PRESET))
	@cmake --build build/$(PRESET) --target olly
	@scripts/install-atomically.sh build/$(PRESET)/olly build/olly

run:
	@$(BOOTSTRAP) build run
	@$(MAKE) --no-print-directory build
	@deploy/demo/run.sh

test:
	@$(BOOTSTRAP) build test
	@$(MAKE) --no-print-directory build hook
	@cmake --build build/$(PRESET)
	@scripts/test.sh build/$(PRESET)

test-harm:
	@$(BOOTSTRAP) build test
	@$(MAKE) --no-print-directory build hook
	@OLLY_SUITES=harm scripts/test.sh build/$(PRESET)

test-harm-long:
	@HARM_LONG=1 $(MAKE) --no-print-directory test-harm

test-go-versions:
	@$(BOOTSTRAP) build test
	@$(MAKE) --no-print-directory build hook
	@E2E_GO_VERSIONS="$(GO_VERSIONS)" $$(tests/e2e/venv.sh build/e2e-venv) -m pytest -q -p no:cacheprovider tests/e2e/test_tls_go.py

test-coverage:
	@$(BOOTSTRAP) build coverage
	@$(call CONFIGURE,coverage)
	@cmake --build build/coverage --target olly_unit_tests
	@scripts/coverage.sh build/coverage

lint:
	@$(BOOTSTRAP) build lint
	@$(call CONFIGURE,$(PRESET))
	@scripts/lint.sh build/$(PRESET)

docs:
	@$(BOOTSTRAP) build
	@$(call CONFIGURE,$(PRESET))
	@cmake --build build/$(PRESET) --target olly_unit_tests
	@OLLY_UPDATE_DOCS=1 build/$(PRESET)/olly_unit_tests --gtest_brief=1 --gtest_filter='ProtocolDocuments.*'

bench:
	@$(BOOTSTRAP) build bench
	@$(MAKE) --no-print-directory build hook
	@cmake --build build/$(PRESET)
	@python3 tests/bench/run.py --build build/$(PRESET) --olly build/olly $(BENCH_ARGS)

fuzz:
	@$(BOOTSTRAP) build fuzz
	@scripts/fuzz.sh || [ $$? = 77 ]

test-kernel:
	@$(BOOTSTRAP) build kernel
	@$(MAKE) --no-print-directory build
	@cmake --build build/$(PRESET)
	@scripts/test-kernel.sh build/$(PRESET) || [ $$? = 77 ]

clean:
	rm -rf build
