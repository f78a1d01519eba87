# Thin: the work is in scripts/. `make` alone says what there is.

PREFIX ?= /usr/local
export KILN = $(CURDIR)/target/release/kiln

.DEFAULT_GOAL := help
.PHONY: help build demo test bench fuzz install lint

help: ## Say what there is
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

build: ## Build kiln (release)
	@cargo build --release --quiet --package kiln

demo: build ## Build, cache, run and test a nine-stage Python service
	@scripts/demo

test: build ## Install what the tests need (as root) and run all of them
	@scripts/install-test-packages || test "$$(id -u)" != 0
	@scripts/test --kiln $(KILN)

bench: build ## Measure kiln beside the builders found on this machine
	@bench/run

fuzz: ## Look for inputs that break the language (needs cargo-fuzz; FUZZ_SECONDS for each target)
	@scripts/fuzz

install: build ## Install kiln below PREFIX (default /usr/local)
	@install -D -m 755 $(KILN) $(DESTDIR)$(PREFIX)/bin/kiln
	@echo "installed $(DESTDIR)$(PREFIX)/bin/kiln"

lint: ## Formatting, clippy with warnings denied, syntax of the scripts
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings
	@scripts/lint-scripts
