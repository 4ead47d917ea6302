#!/usr/bin/env bash
# Installs the clients and upstreams of `make clients`. What is there already stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin

packages=()
for pair in curl:curl openssl:openssl wrk:wrk h2load:nghttp2-client ab:apache2-utils git:git litmus:litmus \
    testssl:testssl.sh chromium:chromium go:golang-go node:nodejs npm:npm nginx:nginx haproxy:haproxy apache2:apache2; do
    command -v "${pair%%:*}" > /dev/null || packages+=("${pair##*:}")
done
for module in aiohttp httpx requests websockets; do
    /usr/bin/python3 -c "import $module" 2> /dev/null || packages+=("python3-$module")
done
/usr/bin/python3 -c "import ensurepip" 2> /dev/null || packages+=(python3-venv)
for module in undici ws; do
    [ -d "/usr/share/nodejs/$module" ] || packages+=("node-$module")
done

if ((${#packages[@]})); then
    echo "installing ${packages[*]}"
    become=()
    [ "$(id -u)" = 0 ] || become=(sudo)
    # The packages would start nginx and apache2 as services; the cases start their own.
    "${become[@]}" apt-get update -qq
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
fi

# What Debian does not have, or has too old.
folder=target/clients
venv=$folder/venv
modules=(grpcio grpcio-health-checking grpcio-status grpcio-tools h2 httplint hypercorn granian)
if ! "$venv/bin/python" -c 'import grpc_health, grpc_status, grpc_tools, h2, httplint, hypercorn, granian' \
    2> /dev/null; then
    echo "installing ${modules[*]}"
    mkdir -p "$folder"
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${modules[@]}"
fi
modules=(@grpc/grpc-js undici@7)
if ! [ -d "$folder/node_modules/@grpc/grpc-js" ] || ! [ -d "$folder/node_modules/undici" ]; then
    echo "installing ${modules[*]}"
    npm install --silent --no-audit --no-fund --no-save --prefix "$folder" "${modules[@]}"
fi
