# vendor.sh makes the modules of a Go program, as nixpkgs does, of those that
# the host has.
export PATH=$go:/usr/bin:/bin HOME=$PWD GOFLAGS='' GOTOOLCHAIN=local
export GOMODCACHE=$modules GOCACHE=$cache GOPROXY=off
cp -r --no-preserve=mode "$src" source
cd source
patchShebangs() { :; }
eval "$postPatch"
go mod vendor
cp -r vendor "$out"
