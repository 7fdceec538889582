#!/usr/bin/env bash
# Lays out the root folder of Headgate's image: the binary, the libraries it links, certificates of authorities, an empty
# /tmp, an empty /data, and nothing else; no shell, no package manager.
#   deploy/rootfs.sh target/dist/headgate target/image
#   docker build -f deploy/Dockerfile.binary -t headgate:0.1.0 target/image
# The libraries are this machine's: what is built on one distribution runs in the image with that distribution's glibc.
set -euo pipefail
if [ $# != 2 ]; then
  echo "usage: $0 BINARY FOLDER (a new one)" >&2
  exit 2
fi
binary=$1 root=$2
[ -x "$binary" ] || { echo "$binary is no program: cargo build --profile dist -p headgate" >&2; exit 1; }
[ ! -e "$root" ] || { echo "$root is there already: remove it, or name another" >&2; exit 1; }

authorities=
for place in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
  [ -f "$place" ] && authorities=$place && break
done
[ -n "$authorities" ] || { echo "no certificates of authorities: install ca-certificates" >&2; exit 1; }

# Each library by the path under which the loader looks for it, and the loader itself.
libraries=$(ldd "$binary") || { echo "$binary links no library that ldd knows" >&2; exit 1; }
if grep -q 'not found' <<<"$libraries"; then
  grep 'not found' <<<"$libraries" >&2
  exit 1
fi
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs"
grep -o '/[^ ]*' <<<"$libraries" | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp --dereference "$library" "$root$library"
done
install -m 755 "$binary" "$root/usr/bin/headgate"
install -m 644 "$authorities" "$root/etc/ssl/certs/ca-certificates.crt"
# Who the process is, and that names are looked up in /etc/hosts first.
echo 'headgate:x:65532:65532:headgate:/:/sbin/nologin' >"$root/etc/passwd"
echo 'headgate:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
# For `headgate demo`, and for a volume: a new one takes the mode of the folder that it is mounted on.
install -d -m 1777 "$root/tmp" "$root/data"
