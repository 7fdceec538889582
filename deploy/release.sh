#!/usr/bin/env bash
# Makes the files of a release from a binary that is built (docs/guides/release.md):
#   cargo build --locked --profile dist -p headgate
#   deploy/release.sh target/dist/headgate REGISTRY/headgate:0.1.0 target/release-files
# An archive of the binary, the Debian package, the two files for kubectl, the bill of materials, and SHA256SUMS of them all. Needs
# dpkg-dev, binutils, kubectl, python3 and cargo. The same commit and the same binary give the same bytes.
set -euo pipefail
if [ $# != 3 ]; then
  echo "usage: $0 BINARY IMAGE:TAG FOLDER (a new one)" >&2
  exit 2
fi
binary=$1 image=$2 folder=$3 source=$(realpath "$(dirname "$0")")
[ -x "$binary" ] || { echo "$binary is no program: cargo build --profile dist -p headgate" >&2; exit 1; }
[ ! -e "$folder" ] || { echo "$folder is there already: remove it, or name another" >&2; exit 1; }
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
mkdir -p "$folder"

"$source/debian/build.sh" "$binary" "$folder" >/dev/null
"$source/release/yaml.sh" "$image" "$folder"
"$source/release/sbom.py" >"$folder/headgate.cdx.json"

# The same files as in the package, for other distributions: usr/bin, usr/lib/systemd, usr/share, etc.
package=$(cd "$folder" && ls headgate_*.deb)
version=$(dpkg-deb -f "$folder/$package" Version)
name=headgate-$version-$(uname -m)-linux
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb -x "$folder/$package" "$work/$name"
install -m 644 "$source/../LICENSE" "$work/$name/LICENSE"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$name" |
  gzip -n >"$folder/$name.tar.gz"

(cd "$folder" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
ls -l "$folder" >&2
