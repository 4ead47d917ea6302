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

# What `fusebox component new` begins with, by the tools of the policies in the same language. (Those
# in Rust are a test of the proxy's.)
fusebox=$(realpath "$fusebox")
for tools in python:json-rpc-errors/.venv c:overload-codes/.venv; do
    for kind in delay key; do
        name=${tools%%:*}-$kind
        echo "== the template $name"
        rm -rf "build/templates/$name"
        mkdir -p build/templates
        (cd build/templates && "$fusebox" component new "$name" --lang "${tools%%:*}" --kind "$kind" > /dev/null)
        ln -s "../../../${tools#*:}" "build/templates/$name/.venv"
        "$fusebox" component build "build/templates/$name"
        "$fusebox" component test "build/templates/$name"
    done
done
