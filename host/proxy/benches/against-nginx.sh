#!/usr/bin/env bash
# CPU time per request of the proxy beside nginx's bare proxy_pass, in turn, in the same minutes: `make bench` calls it.
#
#   against-nginx.sh [ROUNDS] [SECONDS]     default 5 rounds of 5 s
#
# Each round loads every contestant once with `wrk -c 64`, keep-alive, on a 35-byte JSON answer of service B, and takes the
# processor time that the contestant's processes used from /proc. Machines are noisy: read the ratios to nginx, of which
# the median over the rounds is printed. Everything is on loopback, bounded in time, and stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rounds=${1:-5} seconds=${2:-5} connections=${CONNECTIONS:-64} workers=2

for tool in nginx wrk curl; do
    command -v "$tool" > /dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done
cargo build --release -q -p fusebox
cargo build --release -q -p fusebox-examples

work=$(mktemp -d)
pids=()
stop() { kill "${pids[@]}" 2> /dev/null || true; wait 2> /dev/null || true; rm -rf "$work"; }
trap stop EXIT

start() { "$@" > "$work/log" 2>&1 & pids+=($!); last=$!; }
ready() { for _ in $(seq 200); do curl -so /dev/null "http://127.0.0.1:$1/" && return; sleep 0.05; done; cat "$work/log" >&2; exit 1; }

upstream=34001
start target/release/service-b --quiet --listen "127.0.0.1:$upstream"
ready $upstream

# contestant NAME PORT: `last` is its process, whose children count too.
names=() ports=() owners=()
contestant() { names+=("$1"); ports+=("$2"); owners+=("$last"); ready "$2"; }

cat > "$work/nginx.conf" << CONF
worker_processes $workers; daemon off; pid $work/nginx.pid; error_log $work/nginx.err;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 100000000;
    client_body_temp_path $work/1; proxy_temp_path $work/2; fastcgi_temp_path $work/3; uwsgi_temp_path $work/4; scgi_temp_path $work/5;
    upstream b { server 127.0.0.1:$upstream; keepalive 128; keepalive_requests 100000000; }
    server { listen 127.0.0.1:34100; location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
CONF
start nginx -c "$work/nginx.conf"
contestant nginx 34100

fusebox() { # NAME PORT POLICIES
    cat > "$work/$1.toml" << CONF
listen = "127.0.0.1:$2"
workers = $workers
log = { access = false }
[components.service-b]
file = "$PWD/policies/build/service_b.wasm"
[policies]
fallback = { kind = "fallback", respond = { component = "service-b" } }
retry = { kind = "retry" }
wasm-retry = { kind = "retry", handle_if = { component = "service-b" } }
breaker = { kind = "circuit-breaker" }
timeout = { kind = "timeout", limit = "10s" }
[[routes]]
upstream = "http://127.0.0.1:$upstream"
policies = [$3]
CONF
    start target/release/fusebox run "$work/$1.toml"
    contestant "$1" "$2"
}
fusebox no-policy 34101 ''
fusebox native 34102 '"fallback", "retry", "breaker", "timeout"'
fusebox wasm 34103 '"fallback", "wasm-retry", "breaker", "timeout"'

# User and system time of a process and its children, in clock ticks.
ticks() {
    local total=0 pid fields
    for pid in "$1" $(pgrep -P "$1" || true); do
        read -r -a fields < <(sed 's/.*) //' "/proc/$pid/stat")
        total=$((total + fields[11] + fields[12]))
    done
    echo "$total"
}
rss() { local pid; for pid in "$1" $(pgrep -P "$1" || true); do awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; done | awk '{ sum += $1 } END { printf "%.1f", sum / 1024 }'; }

hertz=$(getconf CLK_TCK)
for round in $(seq "$rounds"); do
    for index in "${!names[@]}"; do
        before=$(ticks "${owners[index]}")
        wrk -t 1 -c "$connections" -d "${seconds}s" "http://127.0.0.1:${ports[index]}/" > "$work/wrk"
        after=$(ticks "${owners[index]}")
        requests=$(awk '/requests in/ { print $1 }' "$work/wrk")
        errors=$(awk '/Socket errors/ { gsub(",", ""); print $4 + $6 + $8 + $10 } /Non-2xx/ { print $NF }' "$work/wrk" | awk '{ sum += $1 } END { print sum + 0 }')
        echo "$round ${names[index]} $((after - before)) $requests $errors $(awk '/Requests\/sec/ { print $2 }' "$work/wrk")" >> "$work/results"
    done
done

awk -v hertz="$hertz" '
    { cost[$1, $2] = $3 / hertz / $4 * 1e6; rate[$1, $2] = $6; errors[$2] += $5; rounds = $1
      if (!($2 in seen)) { seen[$2] = 1; order[++count] = $2 } }
    function median(values, length_,    i, j, swap) {
        for (i = 1; i <= length_; i++) for (j = i + 1; j <= length_; j++)
            if (values[j] < values[i]) { swap = values[i]; values[i] = values[j]; values[j] = swap }
        return length_ % 2 ? values[(length_ + 1) / 2] : (values[length_ / 2] + values[length_ / 2 + 1]) / 2
    }
    END {
        printf "%-10s %14s %10s %12s %8s\n", "", "CPU/request", "to nginx", "requests/s", "errors"
        for (n = 1; n <= count; n++) {
            for (r = 1; r <= rounds; r++) { c[r] = cost[r, order[n]]; q[r] = cost[r, order[n]] / cost[r, order[1]]; s[r] = rate[r, order[n]] }
            printf "%-10s %11.2f us %10.2f %12.0f %8d\n", order[n], median(c, rounds), median(q, rounds), median(s, rounds), errors[order[n]]
        }
    }' "$work/results"
for index in "${!names[@]}"; do printf '%-10s %8s MB resident\n' "${names[index]}" "$(rss "${owners[index]}")"; done
