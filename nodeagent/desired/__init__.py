"""From what the mesh wants to what the kernel maps must hold. Pure."""
