#!/usr/bin/env bash
# Installs the clients and upstreams of `make clients`. What is there already stays as it is.
set -euo pipefail
PATH=$PATH:/usr/sbin

packages=()
for pair in curl:curl openssl:openssl wrk:wrk h2load:nghttp2-client ab:apache2-utils git:git litmus:litmus \
    chromium:chromium go:golang-go node:nodejs nginx:nginx haproxy:haproxy apache2:apache2; do
    command -v "${pair%%:*}" > /dev/null || packages+=("${pair##*:}")
done
for module in aiohttp httpx requests websockets; do
    /usr/bin/python3 -c "import $module" 2> /dev/null || packages+=("python3-$module")
done
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
