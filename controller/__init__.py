"""The control plane: API, admission, identities, certificates and distribution to the nodes."""
