#!/usr/bin/env bash
# Runs a command of cargo and shows how far it is, in place of a line for each crate: `120 of 250
# crates, 1 min 40 s`. Warnings and errors are shown as they come.
# Usage: tools/progress.sh WHAT cargo build …
set -u
# The reader runs in this shell and keeps its numbers.
shopt -s lastpipe
exec 3>&1

what=$1
shift
begin=$SECONDS shown=$SECONDS total=0
if [ -t 2 ]; then every=1; else every=15; fi

time_taken() {
    local seconds=$((SECONDS - begin))
    ((seconds < 60)) || printf '%s min ' $((seconds / 60))
    echo "$((seconds % 60)) s"
}

# One line that is written again and again in a terminal, else a line now and then.
show() {
    ((SECONDS - shown >= every)) || return
    shown=$SECONDS
    if [ -t 2 ]; then
        printf '\r\033[K%s: %s, %s' "$what" "$1" "$(time_taken)" >&2
    else
        echo "$what: $1, $(time_taken)" >&2
    fi
}

clear() { if [ -t 2 ]; then printf '\r\033[K' >&2; fi; }

download='^ *Downloading +([0-9]+) crate'
bar='Building +\[.*\] +([0-9]+)/([0-9]+)'
steps='^ *(Blocking|Compiling|Downloaded|Downloading|Executable|Finished|Fresh|Updating) '
follow() {
    local chunk line
    while IFS= read -r -d $'\r' chunk || [ -n "$chunk" ]; do
        while IFS= read -r line; do
            line=${line//$'\033[K'/}
            if [[ $line =~ $bar ]]; then
                total=${BASH_REMATCH[2]}
                show "${BASH_REMATCH[1]} of $total crates"
            elif [[ $line =~ $download ]]; then
                show "${BASH_REMATCH[1]} crates to download"
            elif [ -n "${line// /}" ] && ! [[ $line =~ $steps ]]; then
                clear
                printf '%s\n' "$line" >&2
            fi
        done <<< "$chunk"
    done
    clear
}

# cargo draws its bar, whose numbers are read here, as if for a terminal.
export CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=100 CARGO_TERM_COLOR=never
"$@" 2>&1 >&3 3>&- | follow
status=${PIPESTATUS[0]}
if ((status == 0 && total > 0)); then echo "$what: done in $(time_taken)" >&2; fi
exit "$status"
