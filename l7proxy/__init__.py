"""hoplite-l7proxy: drives the one Envoy of a node for the services that need layer 7."""
