#!/usr/bin/env bash
# Swaps a component's file again and again under load, and counts what failed and what stayed in memory: `make bench` calls it.
#
#   swaps.sh [SWAPS]     default 1000
#
# Each swap is a file with other bytes (a custom section at its end, which means nothing to anyone), moved over the old one
# and awaited in /state. `wrk -c 64` runs meanwhile, through the composition with the component on every response.
set -euo pipefail
cd "$(dirname "$0")/../../.."
swaps=${1:-1000}

for tool in wrk curl; do
    command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done
cargo build --release -q -p fusebox
cargo build --release -q -p fusebox-examples

work=$(mktemp -d)
pids=()
stop() { kill "${pids[@]}" 2> /dev/null || true; wait 2> /dev/null || true; rm -rf "$work"; }
trap stop EXIT

# As composition.toml is, but for ports and file of its own, and without a line per request.
mkdir -p "$work/examples/configs" "$work/policies/build"
sed '/^listen = "${FUSEBOX_LISTEN/a log = { access = false }' examples/configs/composition.toml > "$work/examples/configs/composition.toml"
cp policies/build/service_b.wasm "$work/policies/build/service_b.wasm"
export FUSEBOX_LISTEN=127.0.0.1:34201 FUSEBOX_ADMIN=127.0.0.1:34202 SERVICE_B=http://127.0.0.1:34203

target/release/service-b --quiet --listen 127.0.0.1:34203 > /dev/null & pids+=($!)
target/release/fusebox run "$work/examples/configs/composition.toml" > "$work/log" & proxy=$!; pids+=("$proxy")
for _ in $(seq 200); do curl -sfo /dev/null http://127.0.0.1:34201/ && break; sleep 0.05; done

generation() { curl -s http://127.0.0.1:34202/state | awk '/"generation"/ { print $2 + 0 }'; }
rss() { awk '/^VmRSS/ { printf "%.1f MB", $2 / 1024 }' "/proc/$proxy/status"; }
load() { wrk -t 1 -c 64 -d "$1" http://127.0.0.1:34201/ > "$work/wrk.$2" & loader=$!; pids+=("$loader"); }

load 5s warm; wait "$loader"
echo "resident before: $(rss)"
began=$SECONDS
load 3600s swaps
for number in $(seq "$swaps"); do
    { cat policies/build/service_b.wasm; printf '\0\6\5%05d' "$number"; } > "$work/next.wasm"
    mv "$work/next.wasm" "$work/policies/build/service_b.wasm"
    until [[ $(generation) == $((number + 1)) ]]; do sleep 0.01; done
    if ((number % 250 == 0)); then echo "after $number swaps: $(rss)"; fi
done
kill -INT "$loader"; wait "$loader" || true
echo "$swaps swaps in $((SECONDS - began)) s"
awk '/requests in/ { print $1 " requests" } /Socket errors/ || /Non-2xx/ { print; failed = 1 } END { if (!failed) print "0 failed" }' "$work/wrk.swaps"
curl -s http://127.0.0.1:34202/metrics | grep -E '^fusebox_(component_(loads|instances|faults)|circuit_breaker_transitions|fallbacks_total|retries_total)' | grep -v ' 0$' || true
load 5s after; wait "$loader"
echo "resident after: $(rss)"
