"""Other kernels: commands as root on this machine's files under a kernel that is not its own."""
