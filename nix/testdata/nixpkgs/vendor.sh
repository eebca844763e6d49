# vendor.sh makes the modules of a Go program, as nixpkgs does, of those that
# the host has.
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
