"""Policies of every kind, evaluated: may this end speak to that one, where, and why. Pure."""
