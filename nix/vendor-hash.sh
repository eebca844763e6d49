#!/usr/bin/env bash
# vendor-hash.sh prints the vendorHash that package.nix must have: that of what
# `go mod vendor` makes of the tracked files. With --update it writes it there.
# To be run after every change of go.mod; needs git, go and nix.
set -euo pipefail

case $#${1-} in
0 | 1--update) ;;
*)
  echo 'usage: nix/vendor-hash.sh [--update]' >&2
  exit 2
  ;;
esac
cd "$(dirname "$0")/.."
export NIX_CONFIG='experimental-features = nix-command'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# All packages count, those that only tests import too.
git ls-files -z | xargs -0 cp --parents -t "$work"
(cd "$work" && GOFLAGS='' go mod vendor)
# As buildGoModule hashes it: recursively, and nothing in it mended.
hash=$(nix hash path --sri "$work/vendor")

if [[ ${1-} == --update ]]; then
  sed -i "s|vendorHash = \".*\"|vendorHash = \"$hash\"|" nix/package.nix
fi
echo "$hash"
