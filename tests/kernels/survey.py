"""What a kernel offers, beyond what Hoplite uses today: asked under every kernel of the matrix.

``python -m tests.kernels.survey`` prints one line per question: name, yes or no. A part that starts
using something moves its row to ``nodeagent/datapath/features.py``.
"""

from __future__ import annotations

from nodeagent.datapath.probe import (
    Helper,
    Instructions,
    Link,
    MapOperation,
    MapType,
    Probe,
    SocketDestroy,
)

# name -> (program type, attach type where helpers depend on it)
PROGRAMS = {
    "tc": (3, 0),
    "cgroup_skb": (8, 0),
    "cgroup_sock": (9, 2),
    "sock_release": (9, 34),
    "sock_ops": (13, 3),
    "sk_skb": (14, 0),
    "sk_msg": (16, 7),
    "connect": (18, 10),
    "sendmsg": (18, 14),
    "recvmsg": (18, 19),
    "getpeername": (18, 29),
    "getsockopt": (25, 21),
    "setsockopt": (25, 22),
    "sk_lookup": (30, 36),
}

# helper -> (number, the types of programs that it is wanted in)
HELPERS: dict[str, tuple[int, str]] = {
    "bpf_set_retval": (
        187,
        "connect sendmsg recvmsg getpeername cgroup_sock getsockopt setsockopt",
    ),
    "bpf_get_netns_cookie": (122, "connect cgroup_sock sock_ops getsockopt cgroup_skb tc sk_msg"),
    "bpf_get_socket_cookie": (46, "connect cgroup_sock sock_ops cgroup_skb tc sk_skb"),
    "bpf_get_current_cgroup_id": (80, "connect cgroup_sock sock_ops cgroup_skb"),
    "bpf_get_current_ancestor_cgroup_id": (123, "connect cgroup_sock sock_ops"),
    "bpf_get_current_pid_tgid": (14, "connect cgroup_sock sock_ops getsockopt"),
    "bpf_get_current_uid_gid": (15, "connect cgroup_sock getsockopt"),
    "bpf_get_current_comm": (16, "connect cgroup_sock"),
    "bpf_skb_cgroup_id": (79, "cgroup_skb tc"),
    "bpf_skb_ancestor_cgroup_id": (83, "cgroup_skb tc"),
    "bpf_sk_cgroup_id": (128, "cgroup_skb tc"),
    "bpf_sk_ancestor_cgroup_id": (129, "cgroup_skb tc"),
    "bpf_sk_storage_get": (
        107,
        "connect sendmsg recvmsg getpeername sock_release cgroup_sock sock_ops getsockopt tc",
    ),
    "bpf_sk_fullsock": (95, "cgroup_skb tc"),
    "bpf_tcp_sock": (96, "cgroup_skb tc sock_ops getsockopt"),
    "bpf_sk_lookup_tcp": (84, "connect cgroup_skb tc sk_skb"),
    "bpf_skc_lookup_tcp": (99, "connect cgroup_skb tc"),
    "bpf_sk_assign": (124, "tc sk_lookup"),
    "bpf_setsockopt": (49, "connect sock_ops getsockopt"),
    "bpf_getsockopt": (57, "connect sock_ops getsockopt"),
    "bpf_bind": (64, "connect"),
    "bpf_load_hdr_opt": (142, "sock_ops"),
    "bpf_store_hdr_opt": (143, "sock_ops"),
    "bpf_reserve_hdr_opt": (144, "sock_ops"),
    "bpf_sock_hash_update": (70, "sock_ops"),
    "bpf_msg_redirect_hash": (71, "sk_msg"),
    "bpf_ringbuf_reserve": (131, "connect cgroup_sock sock_ops cgroup_skb tc sk_msg"),
    "bpf_ringbuf_query": (134, "connect sock_ops cgroup_skb"),
    "bpf_loop": (181, "connect cgroup_skb sock_ops tc"),
    "bpf_for_each_map_elem": (164, "connect cgroup_skb sock_ops tc"),
    "bpf_timer_init": (169, "connect sock_ops cgroup_skb tc"),
    "bpf_spin_lock": (93, "connect sock_ops cgroup_skb tc"),
    "bpf_ktime_get_boot_ns": (125, "connect cgroup_skb sock_ops tc"),
    "bpf_ktime_get_coarse_ns": (160, "connect cgroup_skb sock_ops tc"),
    "bpf_jiffies64": (118, "connect cgroup_skb sock_ops tc"),
    "bpf_strncmp": (182, "connect cgroup_skb tc"),
    "bpf_csum_diff": (28, "cgroup_skb tc"),
    "bpf_fib_lookup": (69, "tc"),
    "bpf_redirect_neigh": (152, "tc"),
    "bpf_redirect_peer": (155, "tc"),
    "bpf_skb_change_head": (43, "tc"),
    "bpf_skb_load_bytes_relative": (68, "cgroup_skb tc"),
    "bpf_skb_ecn_set_ce": (97, "cgroup_skb tc"),
    "bpf_tcp_gen_syncookie": (110, "tc"),
    "bpf_map_lookup_percpu_elem": (195, "connect cgroup_skb"),
    "bpf_get_cgroup_classid": (17, "cgroup_skb tc connect"),
}

_HASH, _ARRAY, _PERCPU_HASH, _PERCPU_ARRAY, _LRU, _LPM = 1, 2, 5, 6, 9, 11
MAPS = {
    "lpm_trie": _LPM,
    "array_of_maps": 12,
    "hash_of_maps": 13,
    "sockmap": 15,
    "sockhash": 18,
    "cgroup_storage": 19,
    "percpu_cgroup_storage": 21,
    "sk_storage": 24,
    "ringbuf": 27,
    "bloom_filter": 30,
    "user_ringbuf": 31,
    "cgrp_storage": 32,
}

OPERATIONS = {
    "hash": _HASH,
    "lru_hash": _LRU,
    "percpu_hash": _PERCPU_HASH,
    "array": _ARRAY,
    "percpu_array": _PERCPU_ARRAY,
    "lpm_trie": _LPM,
}

# attach point -> (program type, enum bpf_attach_type)
LINKS = {
    "cgroup ingress": (8, 0),
    "cgroup sock_create": (9, 2),
    "cgroup sock_ops": (13, 3),
    "cgroup connect4": (18, 10),
    "cgroup post_bind4": (9, 12),
    "cgroup sendmsg4": (18, 14),
    "cgroup recvmsg4": (18, 19),
    "cgroup getsockopt": (25, 21),
    "cgroup setsockopt": (25, 22),
    "cgroup getpeername4": (18, 29),
    "cgroup getsockname4": (18, 31),
    "cgroup sock_release": (9, 34),
    "sk_lookup": (30, 36),
    "tcx ingress": (3, 46),
    "tcx egress": (3, 47),
    "cgroup connect_unix": (18, 49),
    "netkit": (3, 54),
}

# r0 = 0; again: r0 += 1; if r0 < 100 goto again; r0 = 1; exit
_LOOP = (
    (0xB7, 0, 0, 0),
    (0x07, 0, 0, 1),
    (0xA5, 0, -2, 100),
    (0xB7, 0, 0, 1),
    (0x95, 0, 0, 0),
)
# r1 = 1; lock *(u64 *)(r10 - 8) fetch-add r1 (after a store); exit
_FETCH = (
    (0xB7, 0, 0, 0),
    (0x7B, 0x0A, -8, 0),
    (0xB7, 1, 0, 1),
    (0xDB, 0x1A, -8, 1),
    (0xB7, 0, 0, 0),
    (0x95, 0, 0, 0),
)


def questions() -> dict[str, Probe]:
    """Everything that is asked, by name."""
    asked: dict[str, Probe] = {}
    for helper, (number, programs) in HELPERS.items():
        for program in programs.split():
            kind, attach = PROGRAMS[program]
            asked[f"{helper} in {program}"] = Helper(kind, number, attach)
    asked |= {f"map {name}": MapType(number) for name, number in MAPS.items()}
    for name, number in OPERATIONS.items():
        asked[f"{name}: batch"] = MapOperation(number, "batch")
        asked[f"{name}: walk"] = MapOperation(number, "walk")
        if number not in {_ARRAY, _PERCPU_ARRAY, _LPM}:
            asked[f"{name}: look up and delete"] = MapOperation(number, "take")
    asked |= {f"link at {name}": Link(*point) for name, point in LINKS.items()}
    asked["bounded loop"] = Instructions(PROGRAMS["cgroup_skb"][0], _LOOP)
    asked["atomic fetch-and-add"] = Instructions(PROGRAMS["cgroup_skb"][0], _FETCH)
    asked["SOCK_DESTROY by netlink"] = SocketDestroy()
    return asked


if __name__ == "__main__":
    for question, probe in questions().items():
        print(f"{question}: {'yes' if probe.present() else 'no'}")
