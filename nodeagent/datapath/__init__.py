"""Between the agent and the kernel: layout, programs, maps, links, ring buffer."""
