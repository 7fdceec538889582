#!/usr/bin/env bash
# Makes the Debian package of a Headgate that is built: the binary, its systemd unit, manual pages, completions, a first document.
#   cargo build --profile dist -p headgate
#   deploy/debian/build.sh target/dist/headgate target/packages
# Needs dpkg-dev and binutils. The package depends on this machine's libraries: build it on the oldest distribution that it is for.
# The same binary gives the same bytes: times in the package are that of the last commit, or SOURCE_DATE_EPOCH.
set -euo pipefail
if [ $# != 2 ]; then
  echo "usage: $0 BINARY FOLDER" >&2
  exit 2
fi
binary=$(realpath "$1") folder=$2 source=$(realpath "$(dirname "$0")/..")
[ -x "$binary" ] || { echo "$1 is no program: cargo build --profile dist -p headgate" >&2; exit 1; }
for tool in dpkg-deb dpkg-shlibdeps strip; do
  command -v $tool >/dev/null || { echo "no $tool here: apt-get install dpkg-dev binutils" >&2; exit 1; }
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
root=$work/root
umask 022
put() { install -D -m "$1" "$2" "$root$3"; }

put 755 "$binary" /usr/bin/headgate
strip --strip-unneeded "$root/usr/bin/headgate"
put 644 "$source/systemd/headgate.service" /usr/lib/systemd/system/headgate.service
put 644 "$source/debian/default" /etc/default/headgate
put 644 "$source/debian/example.yaml" /etc/headgate/example.yaml
install -d -m 700 "$root/etc/headgate/secrets"
put 644 "$source/debian/copyright" /usr/share/doc/headgate/copyright
put 644 "$source/../CHANGELOG.md" /usr/share/doc/headgate/changelog
gzip -9n "$root/usr/share/doc/headgate/changelog"

# Made by the binary itself, so that they are of the same version.
export PATH=$root/usr/bin:$PATH
headgate man "$root/usr/share/man/man1" 2>/dev/null
gzip -9n "$root"/usr/share/man/man1/*
mkdir -p "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
headgate completions bash >"$root/usr/share/bash-completion/completions/headgate"
headgate completions fish >"$root/usr/share/fish/vendor_completions.d/headgate.fish"
{
  headgate completions zsh
  # The file is a function's body when zsh loads it by its name, at the first TAB, which must complete already.
  echo '[ "${funcstack[1]-}" = _headgate ] && _clap_dynamic_completer_headgate "$@"'
} >"$root/usr/share/zsh/vendor-completions/_headgate"

version=$(headgate --version | sed -n '1s/^headgate \([^ ]*\).*/\1/p')
mkdir -p "$work/debian" "$root/DEBIAN"
echo 'Source: headgate' >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O -e"$root/usr/bin/headgate" 2>"$work/shlibdeps.log") ||
  { cat "$work/shlibdeps.log" >&2; exit 1; }
cat >"$root/DEBIAN/control" <<CONTROL
Package: headgate
Version: ${version/-/\~}
Architecture: $(dpkg --print-architecture)
Maintainer: The Headgate authors <headgate@example.org>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: ${libraries#shlibs:Depends=}, ca-certificates
Section: net
Priority: optional
Homepage: https://github.com/headgate/headgate
Description: gateway that turns happenings elsewhere into CloudEvents
 Headgate receives webhooks and polls sources such as GitHub, stores each
 happening as a CloudEvent on disk before it answers, and delivers it to HTTP
 services: with retries, filters, ordering and dead letters.
CONTROL
printf '%s\n' /etc/default/headgate /etc/headgate/example.yaml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "$source/debian/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
mkdir -p "$folder"
dpkg-deb --root-owner-group --build "$root" "$folder" >&2
echo "$folder/headgate_${version/-/\~}_$(dpkg --print-architecture).deb"
