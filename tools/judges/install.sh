#!/usr/bin/env bash
# Installs the servers that `make judges` asks. What is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin

packages=()
for pair in nginx:nginx haproxy:haproxy apache2:apache2 node:nodejs; do
    command -v "${pair%%:*}" > /dev/null || packages+=("${pair##*:}")
done
if ((${#packages[@]})); then
    become=()
    [ "$(id -u)" = 0 ] || become=(sudo)
    # The packages would start some of them as services; `judges` starts its own.
    "${become[@]}" apt-get update -qq
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

venv=target/judges/venv
if ! "$venv/bin/python" -c 'import h11' 2> /dev/null; then
    mkdir -p target/judges
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check h11
fi
