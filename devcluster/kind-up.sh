#!/usr/bin/env bash
# A supernode on kind: image, cluster, chart, machine. Needs docker, kind, kubectl and helm; can be run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CLUSTER=supernode NAMESPACE=supernode-system RELEASE=supernode
VERSION=$(sed -n 's/^appVersion: *//p' helm/supernode/Chart.yaml)
readonly IMAGE=supernode:$VERSION

for tool in docker kind kubectl helm; do
  command -v "$tool" >/dev/null || { echo "kind-up: $tool is not installed (without Docker, make demo does the same)" >&2; exit 1; }
done

docker build --build-arg "VERSION=$VERSION" --tag "$IMAGE" .
kind get clusters | grep -qx "$CLUSTER" || kind create cluster --config kind-config.yaml --wait 2m
kind load docker-image "$IMAGE" --name "$CLUSTER"

kubectl() { command kubectl --context "kind-$CLUSTER" "$@"; }
kubectl create namespace "$NAMESPACE" --dry-run=client -o yaml | kubectl apply -f -
kubectl label namespace "$NAMESPACE" --overwrite pod-security.kubernetes.io/enforce=restricted
helm upgrade --install "$RELEASE" helm/supernode --kube-context "kind-$CLUSTER" --namespace "$NAMESPACE" --wait --timeout 3m
kubectl apply -f examples/supernode-384.yaml
kubectl wait supernode/cm384 --for=condition=Ready --timeout=3m
kubectl get supernode,computenodes
