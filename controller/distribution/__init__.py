"""What each node needs, and how it gets there."""
