#!/usr/bin/env bash
# release.sh makes all files of a release: the packages, the archives, the static
# binaries, the notes and the checksums.
#
#   usage: nix/release.sh OUTDIR [ARCH...]
#
# OUTDIR must be empty or missing. ARCH is amd64 or arm64; both by default. The script
# builds the commit, and stops if the working tree differs from it. All times in the
# files are the commit's. Two builds of a commit with the same Go version are equal byte
# for byte.
set -euo pipefail

name=pika-cloud-lifecycle
nfpm_version=v2.43.0 # docs/decisions/0019-nfpm.md

fail() {
  echo "release.sh: $1" >&2
  exit 1
}

if [[ $# -eq 0 || $1 == -* ]]; then
  echo 'usage: nix/release.sh OUTDIR [ARCH...]' >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
archs=("${@:2}")
if ((${#archs[@]} == 0)); then
  archs=(amd64 arm64)
fi
cd "$(dirname "$0")/.."

for tool in git go tar gzip sed awk sha256sum; do
  if ! command -v "$tool" >/dev/null; then
    fail "$tool is missing; install it"
  fi
done
if [[ -n $(ls -A "$out") ]]; then
  fail "$out is not empty; give an empty or a new directory"
fi
for arch in "${archs[@]}"; do
  case $arch in
  amd64 | arm64) ;;
  *) fail "\"$arch\" is not an architecture of a release; give amd64 or arm64" ;;
  esac
done

# The commit, its version and its tag.
changed=$(git status --porcelain) || fail "this is not a git repository; clone it"
if [[ -n $changed ]]; then
  fail "the working tree has changes; commit or remove them:"$'\n'"$changed"
fi
commit=$(git rev-parse HEAD)
maintainer=$(sed -n 's/^maintainer: //p' nix/nfpm.yaml)
version=$(<VERSION)
if [[ ! $version =~ ^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-(alpha|beta|rc)[1-9][0-9]*)?$ ]]; then
  fail "VERSION is \"$version\"; write a version such as 1.2.3, or 1.2.3-rc1 before that one (alpha, beta or rc)"
fi
tag=v$version
for other in $(git tag --points-at HEAD 'v[0-9]*'); do
  if [[ $other != "$tag" ]]; then
    fail "this commit has the tag $other, but VERSION is $version; delete the tag or change VERSION"
  fi
done
if tagged=$(git rev-parse -q --verify "refs/tags/$tag^{commit}") && [[ $tagged != "$commit" ]]; then
  fail "the tag $tag belongs to another commit, ${tagged:0:12}; check it out, or change VERSION"
fi
notes=$(awk -v heading="## $version" '
  /^## / { wanted = $0 == heading || index($0, heading " ") == 1; next }
  wanted { print }' CHANGELOG.md)
if [[ -z ${notes//[[:space:]]/} ]]; then
  fail "CHANGELOG.md has no section \"## $version\"; write it"
fi

# The links are relative to CHANGELOG.md. The page of a release is elsewhere.
homepage=$(sed -n 's/^homepage: //p' nix/nfpm.yaml)
notes=$(sed -E "s|]\(([^):#][^):]*)\)|](${homepage}/blob/$tag/\1)|g" <<<"$notes")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# nfpm on PATH is used if it is the right one, so that a build needs no network. It
# compresses with Go's package gzip, whose output can change with the version of Go.
go=$(go env GOVERSION)
nfpm=$(command -v nfpm) || nfpm=
built=$(go version -m "$nfpm" 2>/dev/null) || built=
if [[ $built != "$nfpm: $go"$'\n'* || $built != *$'\tgithub.com/goreleaser/nfpm/v2\t'"$nfpm_version"$'\t'* ]]; then
  GOBIN=$work GOOS='' GOARCH='' GOFLAGS='' go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$nfpm_version" ||
    fail "nfpm $nfpm_version, built with $go, is missing; run: go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$nfpm_version"
  nfpm=$work/nfpm
fi

# The umask, the language, the time zone, and the settings of tar, gzip and Go would change
# the files.
umask 022
unset TAR_OPTIONS GZIP GOEXPERIMENT GOFIPS140
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH
export CGO_ENABLED=0 GOOS=linux GOAMD64=v1 GOARM64=v8.0 GOFLAGS=-mod=readonly GOWORK=off

# pack NAME DIR... writes NAME.tar.gz with the directories of the current one.
pack() {
  tar --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=root:0 --group=root:0 -c "${@:2}" | gzip -9n >"$1.tar.gz"
}

# install_below PREFIX installs the program and all other files below the current directory.
install_below() {
  DESTDIR=$PWD bash "$work/src/nix/install.sh" "$1"
  mkdir -p ".$1/bin" ".$1/share/doc/$name"
  cp "$work/$name" ".$1/bin/"
  cp "$work/src/LICENSE" ".$1/share/doc/$name/copyright"
  gzip -9n <"$work/third-party-licenses" >".$1/share/doc/$name/third-party-licenses.gz"
  gzip -9n <"$work/src/CHANGELOG.md" >".$1/share/doc/$name/changelog.gz"
  gzip -9n ".$1/share/man/man1/$name.1"
}

# for_debian changes the files in usr to what Debian expects.
for_debian() {
  mv usr/share/zsh/site-functions usr/share/zsh/vendor-completions # zsh does not search the other one
  gzip -9n >"usr/share/doc/$name/changelog.Debian.gz" <<END
$name (${version/-/\~}-1) unstable; urgency=medium

  * Release $version. changelog.gz lists the changes.

 -- $maintainer  $(date -Rd "@$SOURCE_DATE_EPOCH")
END
}

mkdir "$work/src"
git archive "$commit" | tar -x -C "$work/src"

for arch in "${archs[@]}"; do
  (
    cd "$work/src"
    GOARCH=$arch go build -trimpath -buildvcs=false -o "$work/$name" \
      -ldflags="-s -w -X main.stampedVersion=$version -X main.stampedCommit=$commit" "./cmd/$name"

    # The licenses of the modules in the program, and of Go.
    {
      cat "$(go env GOROOT)/LICENSE"
      GOARCH=$arch go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' "./cmd/$name" |
        sort -u | while read -r path module_version dir; do
        printf '\n%s %s\n\n' "$path" "$module_version"
        find "$dir" -maxdepth 1 \( -name 'LICENSE*' -o -name 'NOTICE*' \) | sort | while read -r file; do cat "$file"; done
      done
    } >"$work/third-party-licenses"
  )
  cp "$work/$name" "$out/$name-$version-linux-$arch"

  mkdir "$work/local" && cd "$work/local"
  install_below /usr/local
  pack "$out/$name-$version-linux-$arch" usr

  mkdir "$work/usr" && cd "$work/usr"
  install_below /usr
  mkdir nix
  cp -r "$work/src/nix/nfpm.yaml" "$work/src/nix/packages" "$work/src/nix/openrc" nix/
  find nix -exec touch -d "@$SOURCE_DATE_EPOCH" {} + # nfpm keeps the times of the scripts
  package() { VERSION=$version ARCH=$arch "$nfpm" package --config nix/nfpm.yaml --packager "$1" --target "$out/"; }
  package rpm
  package apk
  for_debian
  package deb
  # nfpm names the packages of 1.2.3-rc1 after 1.2.3~rc1, which is lower than 1.2.3 for dpkg
  # and rpm. GitHub would rename such a file, and SHA256SUMS would have another name.
  for file in "$out/"*\~*; do
    if [[ -e $file ]]; then mv "$file" "${file/\~/-}"; fi
  done
  cd "$work"
  rm -r local usr
done

cd "$out"
printf '%s\n\nThe files were built from commit %s with %s.\n' "$notes" "$commit" "$go" | sed '/./,$!d' >notes.md # without the first empty lines
sha256sum -- "$name"* >SHA256SUMS
if [[ -z ${tagged-} ]]; then
  echo "release.sh: this commit has no tag yet; before you publish the files, run: git tag $tag" >&2
fi
