#!/usr/bin/env bash
# Compiles what the demonstration needs and nothing else: fusebox without the authors' tools, the
# services, and the guests that are named, for which the second processor has time. `make run` and
# `make tour` call it.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! [ -x target/debug/fusebox ]; then
    cat >&2 << 'END'
Compiling fusebox, which holds a compiler for WebAssembly: about 5 minutes on 2 processors, the
first time. Then fusebox runs between a service A and a service B, and says what to try.
END
fi

guests=$(mktemp)
# In a process group of its own, to be ended as a whole if this ends early.
set -m
policies/build.sh "$@" > "$guests" 2>&1 &
set +m
building=$!
trap 'kill -- "-$building" 2> /dev/null || true; rm -f "$guests"' EXIT

tools/progress.sh "fusebox and the services" "${CARGO:-cargo}" build \
    --no-default-features --features fusebox-features/tests \
    -p fusebox -p fusebox-examples -p fusebox-features
has_built=true
wait "$building" || has_built=false
# Whoever has its number from here on is somebody else.
trap 'rm -f "$guests"' EXIT
"$has_built" || { cat "$guests" >&2; exit 1; }
tail -n 1 "$guests"
