# Keeps a node's namespaces: what the node does to network, mounts and kernel settings ends with them. Outside are only a pair of
# connected interfaces, which ends with the node's end of it, and control groups, which are removed here.
folder=$1 link=$2 host=$3 address=$4 pods=$5 services=$6
script=$7

groups() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    echo "/sys/fs/cgroup/$link"
  else
    for hierarchy in /sys/fs/cgroup/*/cgroup.procs; do echo "${hierarchy%/*}/$link"; done
  fi
}

remove_groups() {
  # A killed process holds its group until the kernel has taken it apart.
  patience=100
  while [ "$patience" -gt 0 ]; do
    left=
    for group in $(groups); do
      [ -d "$group" ] || continue
      find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
      [ -d "$group" ] && left=yes
    done
    [ -n "$left" ] || return 0
    sleep 0.1
    patience=$((patience - 1))
  done
  echo "control groups are left: $(groups)"
}

# One hierarchy may have several names.
for group in $(groups); do mkdir -p "$group" || exit 1; done
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  for controller in cpu cpuset memory pids; do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
fi
ip link add name "$link" type veth peer name "${link}n" || exit 1

trap 'kill -9 $node' TERM
unshare --mount --propagation private --net --ipc --uts --pid --fork --kill-child --mount-proc \
  sh "$script" "$folder" "${link}n" "$host" "$address" "/$link" "$services" &
node=$!
# The process that becomes the node is in its network at once.
until [ "$(readlink /proc/$node/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link set "${link}n" netns "$node" &&
  ip address add "$host/24" dev "$link" && ip link set "$link" up &&
  ip route add "$pods" via "$address" && ip route add "$services" via "$address" &&
  touch "$folder/connected" || kill -9 "$node"
while kill -0 "$node" 2>/dev/null; do wait "$node"; done
ip link delete "$link" 2>/dev/null
remove_groups
