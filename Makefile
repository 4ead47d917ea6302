# Every target works on a fresh clone; `make` alone lists them. Times are those of 2 processors:
# the first time, when everything is compiled, and when nothing has changed since.

CARGO ?= cargo
FUZZ_SECONDS ?= 60
rust-version = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

export CARGO

.DEFAULT_GOAL := help
.PHONY: help run tour test quick policies policies-all build lint audit fuzz clients counts judges \
	overload cache-tests check release package bench clean needs python

help: ## List the targets (0 s)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: needs ## Start a flaky service B, fusebox and service A; ctrl-c ends them (5 min, then 1 s)
	@tools/demo.sh service-b
	@target/debug/tour run

tour: needs ## Run every story against a scripted service B, and check them (5 min, then 1 min)
	@tools/demo.sh service-b graphql-errors openai-errors rate-limit-reset jwt-tenant
	@target/debug/tour

test: policies ## Run all tests (8 min, then 3 min)
	@tools/progress.sh "the tests" $(CARGO) test --workspace --no-run
	$(CARGO) test --workspace --quiet

quick: needs ## Formatting, clippy, the tests of resilience, http1, head (3 min, then 20 s)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO) test --quiet -p fusebox-resilience -p fusebox-http1 -p fusebox-head

policies: needs ## Compile the guests in Rust to policies/build (30 s, then 1 s)
	policies/build.sh

policies-all: policies build ## In other languages too, and test them all (12 min; 1.3 GB of tools)
	policies/build.sh --all
	policies/test.sh

build: needs ## Compile all programs (6 min, then 1 s)
	@tools/progress.sh "all programs" $(CARGO) build --workspace

lint: needs ## Formatting, clippy, docs, the fuzz target; warnings are errors (4 min, then 5 s)
	$(CARGO) fmt --all --check
	cd policies && $(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --features fusebox-features/tests,fusebox/fuzzing \
		-p fusebox -p fusebox-examples -p fusebox-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	CUSTOM_LIBFUZZER_PATH=/none/libnone.a $(CARGO) clippy --locked --target-dir target/fuzz \
		--manifest-path host/http1/fuzz/Cargo.toml -- -D warnings

audit: needs python ## Licences, sources and advisories of all dependencies (5 s; ADVISORIES=folder)
	cd tools/audit && python3 -B -m unittest --quiet test_audit
	python3 -B tools/audit/audit.py

fuzz: policies ## Codec, frames, configurations, each for FUZZ_SECONDS=60 (20 min; installs cargo-fuzz)
	@command -v c++ > /dev/null || \
		{ echo "c++ is missing: install a C++ compiler (Debian: apt-get install g++)" >&2; exit 1; }
	@$(CARGO) fuzz --version 2> /dev/null || \
		{ echo "installing cargo-fuzz"; $(CARGO) install --locked --quiet cargo-fuzz; }
	cd host/http1 && for target in response request; do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --target-dir ../../target/fuzz $$target \
			-- -dict=fuzz/http.dict -max_total_time=$(FUZZ_SECONDS) || exit 1; done
	mkdir -p host/proxy/fuzz/corpus/configuration host/proxy/fuzz/corpus/frames
	cd host/proxy && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --dev --sanitizer none \
		--target-dir ../../target/fuzz configuration fuzz/corpus/configuration \
		../../examples/configs -- -dict=fuzz/configuration.dict -max_total_time=$(FUZZ_SECONDS)
	cd host/proxy && RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --dev --sanitizer none \
		--target-dir ../../target/fuzz frames fuzz/corpus/frames fuzz/seeds/frames \
		-- -max_total_time=$(FUZZ_SECONDS)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --quiet -p fusebox --test it -- fuzzing:: mutated

judges: build ## How other servers read odd requests: docs/http1.md (8 min, then 2 min; installs)
	tools/judges/install.sh
	target/debug/judges

cache-tests: build ## The HTTP Working Group's tests of caches (7 min, then 1 min; needs node, npm)
	tools/cache-tests/run.sh

clients: needs ## Real clients at work through fusebox (9 min, then 3 min; 1.2 GB of tools)
	@tools/clients/install.sh
	@[ -n "$$FUSEBOX" ] || tools/progress.sh "all programs" $(CARGO) build --workspace
	@target/clients/venv/bin/python -B tools/clients/clients.py \
		"$${FUSEBOX:-target/debug/fusebox}"

overload: needs ## Three times too many requests, with and without protection (4 min, then 1 min)
	$(CARGO) test --quiet -p fusebox --test it -- --ignored --nocapture three_times_too_many

counts: build policies ## A request's instructions and allocations, by the record (12 min, then 2 min)
	@command -v valgrind > /dev/null || \
		{ echo "valgrind is missing: install it (Debian: apt-get install valgrind)" >&2; exit 1; }
	@tools/progress.sh "fusebox, optimised" $(CARGO) build --release -p fusebox
	target/debug/counts

# The optimised program is linked on one processor; the tools of other languages have the second.
check: lint audit test tour ## Exactly what CI runs (35 min, then 8 min)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line counts policies-all

release: policies ## Compile the program by a profile of it under load: target/pgo/fusebox (30 min)
	tools/bench/release.sh

package: release python ## A tarball of program, licences and docs: target/package (30 min, then 5 s)
	tools/package.sh

bench: release ## Measure everything, and the proxy beside others (30 min, and as long to compile)
	tools/bench/install.sh
	rm -rf target/criterion
	$(CARGO) bench -p fusebox-resilience -p fusebox-wasm
	target/release/bench micro
	target/release/bench compare
	target/release/bench overload
	target/release/bench scale
	FUSEBOX=target/pgo/fusebox host/proxy/benches/swaps.sh 2000

clean: ## Remove everything that was built (5 s)
	$(CARGO) clean
	rm -rf policies/build policies/target policies/*/build policies/*/node_modules policies/*/.venv

needs:
	@command -v $(CARGO) > /dev/null || \
		{ echo "cargo is missing: install Rust $(rust-version) or newer with rustup" >&2; exit 1; }
	@command -v cc > /dev/null || \
		{ echo "cc is missing: install a C compiler (Debian: apt-get install gcc libc6-dev)" >&2; exit 1; }

python:
	@python3 -c 'import tomllib' 2> /dev/null || \
		{ echo "Python 3.11 is missing: install it (Debian: apt-get install python3)" >&2; exit 1; }
