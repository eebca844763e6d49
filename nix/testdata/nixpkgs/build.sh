# build.sh builds and installs a Go program in the same steps as nixpkgs.
# shellcheck shell=bash
: "${go:?}" "${src:?}" "${out:?}" "${goModules:?}" "${cache:?}" "${ldflags?}" "${postPatch?}" "${postInstall?}"
export PATH=$go:/usr/bin:/bin HOME=$PWD GOTOOLCHAIN=local
export GOCACHE=$cache GOPROXY=off GOFLAGS='-mod=vendor -trimpath' CGO_ENABLED
cp -r --no-preserve=mode "$src" source
cd source || exit
patchShebangs() { :; }
eval "$postPatch"
cp -r "$goModules" vendor
mkdir -p "$out/bin"
GOBIN=$out/bin go install -buildvcs=false "-ldflags=$ldflags -buildid=" ./cmd/...
eval "$postInstall"
