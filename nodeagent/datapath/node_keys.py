"""The only writer of the kernel map node_keys. It says how many keys there are, never which."""

from __future__ import annotations

from nodeagent.datapath.attach import Datapath
from nodeagent.layout import KEY_SENDING, NODE_KEY_ID


class NodeKeys:
    """Makes the map hold what this node shares with others."""

    def __init__(self, datapath: Datapath) -> None:
        self._map = datapath.open_map("node_keys")

    @property
    def empty(self) -> bool:
        return next(self._map.items(), None) is None

    def make_equal(self, wanted: dict[bytes, bytes]) -> int:
        """Write and remove what differs; how much that was.

        What others may send us is there before we send, and stays until after.
        """
        held = dict(self._map.items())
        changed = {key: value for key, value in wanted.items() if held.get(key) != value}
        gone = held.keys() - wanted.keys()
        for key in sorted(changed, key=_is_sending):
            self._map.put(key, changed[key])
        for key in sorted(gone, key=_is_sending, reverse=True):
            self._map.delete(key)
        return len(changed) + len(gone)


def _is_sending(key: bytes) -> bool:
    return bool(NODE_KEY_ID.unpack(key)[1] == KEY_SENDING)
