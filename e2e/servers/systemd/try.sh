#!/usr/bin/env bash
# Boots systemd in a copy of this machine that is thrown away, and runs a script in it:
#   try.sh FOLDER SCRIPT ARGUMENT...
# FOLDER is empty; what the copy writes lands there, in memory, under changes/. The copy has processes, network and control groups
# of its own, and of this machine's services none. Needs root, systemd, util-linux and iproute2.
set -euo pipefail

# The first process of the copy: lays out its root and becomes systemd.
if [ "$1" = --boot ]; then
  folder=$2 root=$2/root
  mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/scratch" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t sysfs sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  for empty in run tmp; do mount -t tmpfs tmpfs "$root/$empty"; done
  ip link set lo up
  # Of a container's base image: it forbids packages to start services.
  rm -f "$root"/etc/systemd/system/*.wants/* "$root/usr/sbin/policy-rc.d"
  for unit in getty.target systemd-logind.service systemd-udevd.service systemd-udev-trigger.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  # Not chroot, in which no user namespace can be made; and shared, for systemd mounts credentials from a process of its own.
  cd "$root" && mkdir -p .old && pivot_root . .old && umount -l /.old && rmdir /.old && mount --make-rshared /
  exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-level=warning --unit=multi-user.target
fi

folder=$(realpath "$1") script=$2
shift 2
if [ -z "${HEADGATE_TRY_IN_NAMESPACE-}" ]; then
  HEADGATE_TRY_IN_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$folder" "$script" "$@"
fi
mount -t tmpfs tmpfs "$folder"
mkdir "$folder"/{changes,scratch,root,cgroup}
# A control group of its own, for systemd takes the one that it is in for the whole machine's.
mount -t cgroup2 cgroup2 "$folder/cgroup"
group=$folder/cgroup/headgate-try-$$
mkdir "$group"
(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup --propagation private "$0" --boot "$folder" </dev/null >&2
) &
boot=$!
end() {
  echo 1 >"$group/cgroup.kill"
  wait $boot 2>/dev/null || true
  for _ in $(seq 50); do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.1
  done
}
trap end EXIT
first= within=
for _ in $(seq 150); do
  [ -n "$first" ] || first=$(pgrep -P $boot || true)
  within="nsenter --target $first --mount --pid --root --uts --ipc --net"
  within="$within env --chdir=/ --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive"
  if [ -n "$first" ] && $within systemctl is-system-running 2>/dev/null | grep -Eq 'running|degraded'; then break; fi
  kill -0 $boot 2>/dev/null || { echo "systemd ended" >&2; exit 1; }
  sleep 0.1
done
export folder within
bash -euo pipefail -c "$script" try "$@"
