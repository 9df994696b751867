"""Connections that were open when policy changed its mind: which they are, and their end."""
