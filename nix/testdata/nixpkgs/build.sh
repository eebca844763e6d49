# build.sh builds and installs a Go program, in the steps of nixpkgs.
export PATH=$go:/usr/bin:/bin HOME=$PWD GOTOOLCHAIN=local
export GOCACHE=$cache GOPROXY=off GOFLAGS='-mod=vendor -trimpath' CGO_ENABLED
cp -r --no-preserve=mode "$src" source
cd source
patchShebangs() { :; }
eval "$postPatch"
cp -r "$goModules" vendor
mkdir -p "$out/bin"
# All programs but those below testdata and examples.
GOBIN=$out/bin go install -buildvcs=false "-ldflags=$ldflags -buildid=" ./cmd/...
eval "$postInstall"
