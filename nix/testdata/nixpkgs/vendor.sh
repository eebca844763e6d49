# vendor.sh creates the vendor directory of a Go program, as nixpkgs does, from the
# module cache of this machine.
# shellcheck shell=bash
: "${go:?}" "${src:?}" "${out:?}" "${modules:?}" "${cache:?}" "${postPatch?}"
export PATH=$go:/usr/bin:/bin HOME=$PWD GOFLAGS='' GOTOOLCHAIN=local
export GOMODCACHE=$modules GOCACHE=$cache GOPROXY=off
cp -r --no-preserve=mode "$src" source
cd source || exit
patchShebangs() { :; }
eval "$postPatch"
go mod vendor
cp -r vendor "$out"
