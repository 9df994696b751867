"""Envoy resources as JSON values; pure functions of the view, one module per kind."""
