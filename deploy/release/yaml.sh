#!/usr/bin/env bash
# Writes the two files of a release that install Headgate on a cluster, each by itself:
#   release.yaml              all of it, with rights as narrow as deploy/kustomize has them
#   release-all-sources.yaml  the same, and the right to read Kubernetes Events of every namespace, for KubernetesEventSources
#   deploy/release/yaml.sh REGISTRY/headgate:0.1.0 target/release-files
#   kubectl apply -f target/release-files/release.yaml
# Needs kubectl, no cluster.
set -euo pipefail
if [ $# != 2 ]; then
  echo "usage: $0 IMAGE:TAG FOLDER" >&2
  exit 2
fi
image=$1 folder=$2 source=$(realpath "$(dirname "$0")/..")
name=${image%:*} tag=${image##*:}
if [ "$name" = "$image" ] || [[ $tag == */* ]]; then
  echo "$image has no tag: an image is named as REGISTRY/headgate:0.1.0" >&2
  exit 2
fi

# kustomize reads folders below its own alone.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$source"/{crds,kustomize} "$work"
mkdir -p "$folder"
# write NAME [FILE OF deploy/release]
write() {
  mkdir "$work/$1"
  [ $# = 1 ] || cp "$source/release/$2" "$work/$1"
  cat >"$work/$1/kustomization.yaml" <<KUSTOMIZATION
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../kustomize${2:+, $2}]
images: [{ name: headgate, newName: "$name", newTag: "$tag" }]
replacements:
- source: { kind: StatefulSet, name: headgate, fieldPath: "spec.template.spec.containers.[name=headgate].image" }
  targets:
  - select: { kind: StatefulSet, name: headgate }
    fieldPaths: ["spec.template.spec.containers.[name=headgate].env.[name=HEADGATE_IMAGE].value"]
KUSTOMIZATION
  {
    echo "# Headgate, image $image. Made by deploy/release/yaml.sh: change deploy/kustomize, not this file."
    kubectl kustomize "$work/$1"
  } >"$folder/$1.yaml"
}
write release
write release-all-sources events-of-every-namespace.yaml
