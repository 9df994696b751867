"""The controller's HTTP API: Kubernetes-shaped resources, nodes, flows."""
