"""What this kernel can do, found by asking it, and what is done without it."""

from __future__ import annotations

import ctypes

from nodeagent.datapath.programs import FEATURES


def probe() -> dict[str, str]:
    """Feature name -> ``yes``, or what is missed without it."""
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    found = {}
    for feature in FEATURES:
        present = library.libbpf_probe_bpf_helper(feature.program_type, feature.helper, None) == 1
        found[feature.name] = (
            "yes" if present else f"no (needs Linux {feature.since}): {feature.without}"
        )
    return found


def names(present: dict[str, str]) -> set[str]:
    """The names of the features that are there."""
    return {name for name, text in present.items() if text == "yes"}
