#!/usr/bin/env bash
# install.sh installs everything except the binary: the man page, the message
# catalog, the unit files, the systemd-tmpfiles lines for the state directory, a function
# for scripts, and the completions of bash, zsh and fish.
#
#   usage: [DESTDIR=DIR] nix/install.sh PREFIX
#
# The units start PREFIX/bin/pika-cloud-lifecycle. With DESTDIR the files are
# installed below DIR, so that they can be packed.
set -euo pipefail

if [[ $# -ne 1 || $1 != /* ]]; then
  echo 'usage: [DESTDIR=DIR] nix/install.sh PREFIX (an absolute path)' >&2
  exit 2
fi
prefix=$1
to=${DESTDIR-}$prefix
cd "$(dirname "$0")/.."

# place DIRECTORY FILE... copies the files, and sets the path of the binary in units.
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
place share/doc/pika-cloud-lifecycle docs/directive.sh # warnings name it

# Each shell looks for completions under its own name.
completion() {
  mkdir -p "$to/${2%/*}"
  cp "nix/completions/$1" "$to/$2"
  chmod 0644 "$to/$2"
}
completion pika-cloud-lifecycle.bash share/bash-completion/completions/pika-cloud-lifecycle
completion _pika-cloud-lifecycle share/zsh/site-functions/_pika-cloud-lifecycle
completion pika-cloud-lifecycle.fish share/fish/vendor_completions.d/pika-cloud-lifecycle.fish
