"""Active health: this node asks the ports of its own workloads whether they are well."""
