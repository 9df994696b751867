"""Where objects, identity numbers and tokens are kept."""
