"""The admin's command line; it knows nothing of the controller but its API."""
