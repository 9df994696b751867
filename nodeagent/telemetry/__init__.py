"""From kernel records to flows, history and metrics."""
