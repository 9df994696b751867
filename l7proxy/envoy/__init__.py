"""The Envoy process: started, adopted, watched, restarted and stopped."""
