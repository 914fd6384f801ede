"""The kubelet's device plugin API v1beta1: the protocol file and the stubs generated from it."""
