"""The kubelet's PodResources API v1: the protocol file and the stubs generated from it."""
