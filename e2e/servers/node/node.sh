# The node itself, as the first process of its namespaces: a network with one way out (to this machine), a container engine, and,
# once the API server answers, kubelet, kube-proxy and the names of the cluster.
folder=$1 link=$2 host=$3 address=$4 group=$5 services=$6
set -e
cd "$folder"

# Volumes of pods are mounted by one process and used by others.
mount --make-rshared /
# Where kubelet, containerd and network plug-ins keep what cannot be put elsewhere.
for place in /run /var/lib /var/log; do mount -t tmpfs node "$place"; done
# Settings that are the whole machine's, of which the kubelet wants others: it changes copies.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  [ -e "/proc/sys/$setting" ] || continue
  copy=/run/$(echo "$setting" | tr / .)
  cat "/proc/sys/$setting" >"$copy"
  mount --bind "$copy" "/proc/sys/$setting"
done

until [ -e connected ]; do sleep 0.05; done
ip link set lo up
ip link set "$link" name eth0
ip address add "$address/24" dev eth0
ip link set eth0 up
ip route add default via "$host"
echo 1 >/proc/sys/net/ipv4/ip_forward
# A Service that kube-proxy does not know yet refuses connections, as one without pods does. Sent out, a packet for it would come
# back; and whoever connects sends it again along the way of the first one, in vain for two minutes, whatever kube-proxy learns.
iptables --append FORWARD --destination "$services" --jump REJECT

containerd --config containerd.toml >>containerd.log 2>&1 &
until [ -e served ]; do sleep 0.05; done
# More than the limit of this machine's processes cannot be had.
echo "maxOpenFiles: $(ulimit -Hn)" >>kubelet.yaml
"$KUBELET" --config=kubelet.yaml --kubeconfig="$KUBECONFIG" --root-dir="$folder/kubelet" --cert-dir="$folder/kubelet/pki" \
  --hostname-override=node --node-ip="$address" >>kubelet.log 2>&1 &
"$KUBE_PROXY" --config=kube-proxy.yaml >>kube-proxy.log 2>&1 &
"$COREDNS" -conf Corefile >>coredns.log 2>&1 &
wait
