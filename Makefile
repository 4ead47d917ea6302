# Every target works on a fresh clone; `make` alone lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help run tour test policies policies-all build lint release bench counts check clean tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build policies ## Start a flaky service B, fusebox with the Wasm policy, and service A; ctrl-c ends them
	@target/debug/tour run

tour: build policies ## Run every story against a scripted service B; fails if anything is not as it says
	@target/debug/tour

test: build policies ## Run all tests
	$(CARGO) test --workspace

policies: tools ## Compile the guests to policies/build
	policies/build.sh

policies-all: policies build ## Compile the guests in other languages too, with tool chains of 1.3 GB, and run all their cases
	policies/build.sh --all
	policies/test.sh

# All targets, tests too: what they add to the features of shared dependencies would else compile wasmtime a second time.
build: tools ## Compile everything else
	$(CARGO) build --workspace --all-targets

lint: tools ## Formatting, clippy and docs; warnings are errors
	$(CARGO) fmt --all --check
	cd policies && $(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

release: policies ## Compile the program for use, by a profile of it under load: target/pgo/fusebox
	tools/bench/release.sh

bench: release ## Measure: the loops, a component call, the proxy beside others and as things grow, swaps under load
	@echo "this takes 30 minutes, and as long again where everything has to be compiled"
	tools/bench/install.sh
	rm -rf target/criterion
	$(CARGO) bench -p fusebox-resilience -p fusebox-wasm
	target/release/bench micro
	target/release/bench compare
	target/release/bench scale
	FUSEBOX=target/pgo/fusebox host/proxy/benches/swaps.sh 2000

counts: build policies ## Count a request's instructions and allocations, and compare them with the record
	@command -v valgrind > /dev/null || { echo "valgrind is missing: install it (Debian: apt-get install valgrind)" >&2; exit 1; }
	$(CARGO) build --release -p fusebox
	target/debug/counts

check: lint test tour counts ## What CI runs

clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf policies/build policies/target policies/*/build policies/*/node_modules policies/*/.venv

tools:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer with rustup" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "cc is missing: install a C compiler (Debian: apt-get install gcc libc6-dev)" >&2; exit 1; }
