"""What can go wrong at the kubelet's sockets.

AgentError
├── SocketPathError            permanent: the folder's path is too long for a unix socket
├── KubeletUnreachableError    retried: KubeletUnreachable
├── RegistrationRefusedError   retried, slowly: RegistrationFailed
└── PodResourcesError          retried: PodResourcesUnreachable
"""

from __future__ import annotations

__all__ = [
    "AgentError",
    "KubeletUnreachableError",
    "PodResourcesError",
    "RegistrationRefusedError",
    "SocketPathError",
]


class AgentError(Exception):
    """Base of the agent's own errors; the message is for people."""


class SocketPathError(AgentError):
    """A unix socket's path may have 105 bytes, and the kubelet's folder leaves too few."""


class KubeletUnreachableError(AgentError):
    """The kubelet's registration socket is not there or does not answer."""


class RegistrationRefusedError(AgentError):
    """The kubelet answered and said no; the message is the kubelet's."""


class PodResourcesError(AgentError):
    """The PodResources socket is not there, does not answer or answers with an error."""
