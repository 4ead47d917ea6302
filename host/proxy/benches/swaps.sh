#!/usr/bin/env bash
# Swaps a component again and again under load, and counts what failed and what stayed behind: `make bench` calls it.
#
#   [FUSEBOX=PROGRAM] swaps.sh [SWAPS]     default: target/release/fusebox, which it builds, and 10000
#
# Good, bad, trapping, looping and oversized components are pushed in turn, while `wrk -c 64` keeps both workers busy with an
# upstream of which half of the answers are 503s: the component decides about each and answers in its place. swaps.rs pushes.
set -euo pipefail
cd "$(dirname "$0")/../../.."
swaps=${1:-10000}

for tool in wrk curl; do
    command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done
[ -n "${FUSEBOX:-}" ] || cargo build --release -q -p fusebox
fusebox=${FUSEBOX:-target/release/fusebox}
cargo build --release -q -p fusebox-examples
driver() { cargo test -q --workspace --bench swaps -- "$@"; }

work=$(mktemp -d)
pids=()
stop() { kill "${pids[@]}" 2> /dev/null || true; wait 2> /dev/null || true; rm -rf "$work"; }
trap stop EXIT

echo 'open sesame' > "$work/token"
cat > "$work/fusebox.toml" << 'TOML'
listen = "127.0.0.1:34201"
admin = { listen = "127.0.0.1:34202", token_file = "token" }
log = { access = false }

[components.c]
file = "c.wasm"
peek_body = "16B"
max_faults = 2

[policies.fallback]
kind = "fallback"
handle_if = { component = "c" }
respond = { component = "c" }

[policies.breaker]
kind = "circuit-breaker"
handle_if = { status = ["500"], failure = ["any"] }

[[routes]]
upstream = "http://127.0.0.1:34203"
policies = ["fallback", "breaker"]
TOML
driver --first > "$work/c.wasm"

target/release/service-b --quiet --mode flaky --listen 127.0.0.1:34203 > /dev/null & pids+=($!)
"$fusebox" run "$work/fusebox.toml" > "$work/log" & proxy=$!; pids+=("$proxy")
for _ in $(seq 200); do curl -sfo /dev/null http://127.0.0.1:34201/ && break; sleep 0.05; done

load() { wrk -t 1 -c 64 -d "$1" http://127.0.0.1:34201/ > "$work/wrk.$2" & loader=$!; pids+=("$loader"); }

load 5s warm; wait "$loader"
load 3600s swaps
driver 127.0.0.1:34202 "$proxy" "$swaps"
kill -INT "$loader"; wait "$loader" || true
awk '/requests in/ { print $1 " requests" } /Socket errors/ || /Non-2xx/ { print; failed = 1 } END { if (!failed) print "0 failed" }' "$work/wrk.swaps"
curl -s http://127.0.0.1:34202/metrics | grep -E '^fusebox_(component_(loads|instances|faults|calls_skipped)|circuit_breaker_transitions|fallbacks_total|fallbacks_declined)' | grep -v ' 0$' || true
