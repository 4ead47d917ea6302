#!/usr/bin/env bash
# Puts the program, the licences and the docs into target/package/fusebox-VERSION-TARGET.tar.gz.
# PROGRAM is what `make release` makes, unless another one is named.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${PROGRAM:-target/pgo/fusebox}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=fusebox-$version-$(rustc -vV | sed -n 's/^host: //p')
folder=target/package/$name

rm -rf "$folder"
mkdir -p "$folder"
install -s "$program" "$folder/fusebox"
python3 -B tools/audit/third_party.py > "$folder/THIRD-PARTY-LICENSES"
git ls-files LICENSE ':(glob)*.md' docs wit examples/configs | grep -v ^docs/performance/ \
    | xargs cp --parents --target-directory "$folder"
# The same files make the same bytes.
tar --create --file=- --directory=target/package --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$(git log -1 --format=%ct)" "$name" | gzip --no-name > "$folder.tar.gz"
rm -rf "$folder"
echo "$folder.tar.gz"
