#!/usr/bin/env bash
# Runs the HTTP Working Group's tests of caches (cache-tests.fyi) against a fusebox with a cache,
# and holds what fails against known.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

commit=b55b8bda3dbb8c927c04e85bd8d496a8caa3e4ba
folder=$PWD/target/cache-tests
suite=$folder/suite
fusebox=${1:-target/debug/fusebox}
for need in node npm git curl; do
    command -v "$need" > /dev/null || { echo "$need is missing: install it" >&2; exit 1; }
done
if [ "$(git -C "$suite" rev-parse HEAD 2> /dev/null)" != "$commit" ]; then
    rm -rf "$suite"
    git clone --quiet https://github.com/http-tests/cache-tests "$suite"
    git -C "$suite" checkout --quiet "$commit"
    (cd "$suite" && npm install --omit=dev --no-audit --no-fund --silent)
fi

port=$((20000 + RANDOM % 10000))
cat > "$folder/fusebox.toml" << END
listen = "127.0.0.1:$((port + 1))"

[policies.cache]
kind = "cache"

[[routes]]
upstream = "http://127.0.0.1:$port"
policies = ["cache"]
END
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
export npm_config_port=$port npm_config_protocol=http npm_config_pidfile=$folder/server.pid
export npm_config_base=http://127.0.0.1:$((port + 1)) npm_config_id=
node "$suite/test-engine/server/server.mjs" > "$folder/server.log" 2>&1 &
"$fusebox" run "$folder/fusebox.toml" > "$folder/fusebox.log" 2>&1 &
for address in "127.0.0.1:$port" "127.0.0.1:$((port + 1))"; do
    curl --silent --output /dev/null --retry 20 --retry-connrefused --retry-delay 1 "$address"
done
(cd "$suite" && npm_package_config_id= node --no-warnings test-engine/cli.mjs) \
    > "$folder/results.json"
node --no-warnings tools/cache-tests/compare.mjs "$suite" "$folder/results.json" \
    tools/cache-tests/known.txt
