"""Paired benchmarks: each prints ratios, with the machine, kernel and commit they were taken on."""
