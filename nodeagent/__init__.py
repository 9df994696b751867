"""The node agent: keeps this node's kernel equal to what the mesh wants, and measures."""
