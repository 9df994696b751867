"""Keys for identities in SYNs: this node's own, and what it shares with every other node."""
