#!/usr/bin/env bash
# Runs the cases of every policy that is built, and asks each component 200,000 times by them, on one instance unless that had to
# be recycled: some languages' collectors fail only after so many calls. `make policies-all` calls it.
set -euo pipefail
cd "$(dirname "$0")"
fusebox=${FUSEBOX:-../target/debug/fusebox}

for manifest in */component.toml hostile/*/component.toml; do
    policy=$(dirname "$manifest")
    cases=$(grep -c '^\[\[case\]\]' "$policy/cases.toml")
    echo "== $policy"
    "$fusebox" component test "$policy"
    "$fusebox" component bench "$policy" --calls $((200000 / cases + 1))
done
