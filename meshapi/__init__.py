"""What every Hoplite process shares: resources, vocabulary, node contract and client.

Pure but for ``client``: nothing else in this package does I/O.
"""

__version__ = "0.1.0"
