#!/usr/bin/env bash
# vendor-hash.sh prints the vendorHash that package.nix needs: the hash of the output
# of `go mod vendor` for the tracked files. With --update it also writes the hash to
# package.nix. Run it after every change of go.mod. It needs git, go and nix.
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
# Copy all packages, because the tests import more modules.
git ls-files -z | xargs -0 cp --parents -t "$work"
(cd "$work" && GOFLAGS='' go mod vendor)
# Hash it as buildGoModule does: recursively, without normalising the files.
hash=$(nix hash path --sri "$work/vendor")

if [[ ${1-} == --update ]]; then
  sed -i "s|vendorHash = \".*\"|vendorHash = \"$hash\"|" nix/package.nix
fi
echo "$hash"
