"""What the policies of a mesh say, read from their documentation and nothing else.

A second evaluator, as plain and slow as the texts that it follows: the Kubernetes API reference
(NetworkPolicy v1), the comments of ClusterNetworkPolicy v1alpha2 (network-policy-api), Istio's
AuthorizationPolicy and what it says of TCP, and docs/policy.md. It knows the API's objects
(meshapi) and imports nothing of nodeagent; the two are compared by tests.

``decide`` is about two known ends. ``connect``, ``connect_unenrolled`` and ``accept`` are about
what the hooks of one node know of them.
"""

from tests.unit.nodeagent.reference.deciding import decide
from tests.unit.nodeagent.reference.hooks import Outcome, accept, connect, connect_unenrolled
from tests.unit.nodeagent.reference.mesh import End, Protocol, World, name

__all__ = [
    "End",
    "Outcome",
    "Protocol",
    "World",
    "accept",
    "connect",
    "connect_unenrolled",
    "decide",
    "name",
]
