"""The node's DNS: answers for the mesh's names, forwards all others."""
