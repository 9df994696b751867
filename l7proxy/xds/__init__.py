"""Delta ADS: resources as JSON values on one side, Envoy on the other."""
