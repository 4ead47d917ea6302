#!/usr/bin/env bash
# Builds the guests into policies/build/<name_with_underscores>.wasm: those in Rust, as `make policies`
# does, or those of them that are named, or with `--all` those in other languages too, whose tool
# chains it installs beside them first (1.3 GB, once).
#
# For Rust two routes lead to the same components:
#   rustup   the target wasm32-wasip2, whose linker makes components
#   debian   the packages cargo-web, rustc-web, rust-web-src and rust-web-llvm: the target
#            wasm32-unknown-unknown with the standard library built from source. They stay core
#            modules, which the proxy wraps when it loads them. No stderr there, so a panic is a trap
#            without its message.
# The first that can be had is taken; FUSEBOX_GUEST_TOOLCHAIN=rustup or =debian asks for one.
set -euo pipefail
cd "$(dirname "$0")"

guests=(graphql-errors grpc-web-errors http-hostile jwt-tenant openai-errors rate-limit-reset service-b status-page)
others=(deploy-window json-rpc-errors maintenance-page overload-codes)
# Which tools they share, since each installation takes hundreds of megabytes.
hostile=(javascript:maintenance-page/node_modules python:json-rpc-errors/.venv c:overload-codes/.venv)

fail() { echo "policies/build.sh: $*" >&2; exit 1; }

with_rustup() {
    command -v rustup > /dev/null || { missing="no \`rustup\`: it comes with Rust's installer"; return 1; }
    if ! rustup target list --installed | grep -qx wasm32-wasip2; then
        rustup target add wasm32-wasip2 || { missing="no target \`wasm32-wasip2\`: run \`rustup target add wasm32-wasip2\`"; return 1; }
    fi
}

with_debian() {
    # Debian's `rust-lld` is a link into the package `lld-22`; any other LLVM linker for WebAssembly does as well.
    linker=$(command -v rust-lld wasm-ld-22 wasm-ld-19 wasm-ld | head -n 1) || true
    [[ -n $linker ]] || linker=$(compgen -G "$(rustc --print sysroot)/lib/rustlib/*/bin/rust-lld" | head -n 1) || true
    if [[ ! -x /usr/bin/cargo || ! -x /usr/bin/rustc || ! -d /usr/lib/rustlib/src/rust/library ]]; then
        missing="no Debian toolchain: run \`apt-get install cargo-web rustc-web rust-web-src rust-web-llvm lld-22\`"
    elif [[ -z $linker ]]; then
        missing="no \`rust-lld\` or \`wasm-ld\`: run \`apt-get install lld-22\`"
    else
        return 0
    fi
    return 1
}

build_rustup() {
    "$cargo" build --locked --release --target wasm32-wasip2 --target-dir target "${packages[@]}"
    for guest in "${guests[@]}"; do
        install_component "target/wasm32-wasip2/release/${guest//-/_}.wasm" "${guest//-/_}"
    done
}

build_debian() {
    # Its own directories: the other route's compiler has another version.
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker \
        /usr/bin/cargo build --locked --release --target-dir target/debian \
        -Zbuild-std=std,panic_abort --target wasm32-unknown-unknown "${packages[@]}"
    for guest in "${guests[@]}"; do
        name=${guest//-/_}
        install_component "target/debian/wasm32-unknown-unknown/release/$name.wasm" "$name"
    done
}

# A proxy may be watching: whole or not at all, and only if it is different.
install_component() {
    local from=$1 to=build/$2.wasm
    mkdir -p build
    if cmp -s "$from" "$to"; then
        echo "policies/$to: unchanged"
    else
        cp "$from" "$to.new"
        mv "$to.new" "$to"
        echo "policies/$to: $(wc -c < "$to") bytes"
    fi
}

build_others() {
    local fusebox=${FUSEBOX:-../target/debug/fusebox} guest
    [[ -x $fusebox ]] || fail "no \`$fusebox\`: run \`make build\`, or set FUSEBOX to a fusebox"
    for guest in "${others[@]}"; do
        if [[ -f $guest/package.json ]]; then
            npm_packages "$guest"
        elif [[ -f $guest/requirements.txt ]]; then
            python_packages "$guest"
        fi
        "$fusebox" component build "$guest"
    done
    for guest in "${hostile[@]}"; do
        local tools=${guest#*:} folder=hostile/${guest%%:*}
        ln -sfn "../../$tools" "$folder/$(basename "$tools")"
        "$fusebox" component build "$folder"
    done
}

npm_packages() {
    command -v npm > /dev/null || fail "$1: no \`npm\`: install Node.js 20 or newer"
    # npm writes this file last, so it is there and the newer one if all is installed.
    [[ $1/node_modules/.package-lock.json -nt $1/package-lock.json ]] || (cd "$1" && npm ci)
}

python_packages() {
    [[ $1/.venv/installed -nt $1/requirements.txt ]] && return
    python3 -m venv "$1/.venv" || fail "$1: no Python with venv: install Python 3.10 or newer (Debian: apt-get install python3-venv)"
    "$1/.venv/bin/pip" install --quiet --requirement "$1/requirements.txt"
    touch "$1/.venv/installed"
}

all=false
if [[ ${1:-} = --all ]]; then
    all=true
elif (($#)); then
    for guest in "$@"; do
        [[ " ${guests[*]} " = *" $guest "* ]] || fail "expected \`--all\` or some of ${guests[*]}, found \`$guest\`"
    done
    guests=("$@")
fi
packages=("${guests[@]/#/--package=}")
cargo=${CARGO:-cargo}

missing=
case ${FUSEBOX_GUEST_TOOLCHAIN:-} in
    rustup | debian) routes=("$FUSEBOX_GUEST_TOOLCHAIN") ;;
    "") routes=(rustup debian) ;;
    *) fail "FUSEBOX_GUEST_TOOLCHAIN: expected \`rustup\` or \`debian\`, found \`$FUSEBOX_GUEST_TOOLCHAIN\`" ;;
esac
reasons=()
for route in "${routes[@]}"; do
    if "with_$route"; then
        echo "policies/build.sh: building with the $route toolchain"
        "build_$route"
        if $all; then build_others; fi
        exit
    fi
    reasons+=("$missing")
done
fail "$(IFS=';'; echo "${reasons[*]}")"
