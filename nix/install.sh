#!/usr/bin/env bash
# install.sh puts all but the binary where it belongs: the man page, the message
# catalog, the unit files and the state directory's line for systemd-tmpfiles.
#
#   usage: [DESTDIR=DIR] nix/install.sh PREFIX
#
# PREFIX is where the binary is, in bin; the units name it by that path. With
# DESTDIR the files are put below DIR, from where they can be packed.
set -euo pipefail

if [[ $# -ne 1 || $1 != /* ]]; then
  echo 'usage: [DESTDIR=DIR] nix/install.sh PREFIX (an absolute path)' >&2
  exit 2
fi
prefix=$1
to=${DESTDIR-}$prefix
cd "$(dirname "$0")/.."

# place DIRECTORY FILE... copies files, and has units name the binary where it will
# be.
place() {
  local dir=$to/$1 file
  shift
  mkdir -p "$dir"
  for file in "$@"; do
    sed "s|/usr/local/|$prefix/|g; s|exec pika-cloud|exec $prefix/bin/pika-cloud|" "$file" >"$dir/${file##*/}"
    chmod 0644 "$dir/${file##*/}"
  done
}

place share/man/man1 docs/pika-cloud-lifecycle.1
place lib/systemd/catalog docs/catalog/*.catalog
place lib/systemd/system nix/systemd/*.service nix/systemd/*.socket docs/units/*.service
place lib/tmpfiles.d nix/systemd/*.conf
