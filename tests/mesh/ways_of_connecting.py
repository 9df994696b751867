"""Every way in which a program can open a connection or send a datagram, as ``python3 -c`` text.

The program takes WAY ADDRESS PORT and prints what came of it: who answered, or an errno's name. An
address may be followed by another one, for ways that speak to two.
"""

from __future__ import annotations

# Ways of TCP, and of UDP.
TCP = (
    "plain",
    "non-blocking",
    "bound",
    "bound-any-address",
    "reused-port",
    "to-device",
    "mapped",
    "fastopen-sendto",
    "fastopen-connect",
    "mptcp",
    "io_uring",
    "passed-on",
    "again",
)
UDP = (
    "udp-sendto",
    "udp-connected",
    "udp-mapped",
    "udp-sendmmsg",
    "udp-reconnected",
    "udp-connected-sendto",
    "udp-segmented",
)

PROGRAM = r"""
import ctypes, errno, os, select, socket, struct, sys
way, address, port, *others = sys.argv[1:]
port, v6 = int(port), ":" in address
family = socket.AF_INET6 if v6 else socket.AF_INET
own = os.environ.get("OWN6" if v6 else "OWN4", "")
TCP_FASTOPEN_CONNECT, MPTCP, SO_REUSEPORT, SO_BINDTODEVICE, UDP_SEGMENT = 30, 262, 15, 25, 103

def answer(connection):
    connection.settimeout(3)
    return connection.recv(99).decode().partition(":")[0].removesuffix("x") or "closed"

def tcp(family=family, protocol=0):
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.settimeout(3)
    return made

def to(connection, address=address):
    connection.connect((address, port))
    return answer(connection)

def plain():
    return to(tcp())

def non_blocking():
    connection = tcp()
    connection.setblocking(False)
    failed = connection.connect_ex((address, port))
    if failed not in (0, errno.EINPROGRESS):
        raise OSError(failed, "connect")
    select.select([], [connection], [], 3)
    failed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, "later")
    return answer(connection)

def bound():
    connection = tcp()
    connection.bind((own, 0))
    return to(connection)

def bound_any_address():
    connection = tcp()
    connection.bind(("::" if v6 else "0.0.0.0", 0))
    return to(connection)

def reused_port():
    # Two connections from one port: the first to somebody else, still open.
    first, second = tcp(), tcp()
    for connection in (first, second):
        connection.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    first.bind((own, 0))
    second.bind((own, first.getsockname()[1]))
    to(first, others[0])
    return to(second)

def to_device():
    connection = tcp()
    connection.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"eth0\0")
    return to(connection)

def mapped():
    return to(tcp(socket.AF_INET6), address if v6 else "::ffff:" + address)

def fastopen_sendto():
    connection = tcp()
    connection.setblocking(True)
    connection.sendto(b"x", socket.MSG_FASTOPEN, (address, port))
    return answer(connection)

def fastopen_connect():
    connection = tcp()
    connection.setblocking(True)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    connection.connect((address, port))
    connection.send(b"x")
    return answer(connection)

def mptcp():
    return to(tcp(protocol=MPTCP))

def passed_on():
    # A socket made by one process, connected by another that it was passed to.
    here, there = socket.socketpair(socket.AF_UNIX)
    made = tcp()
    socket.send_fds(here, [b"x"], [made.fileno()])
    child = os.fork()
    if not child:
        here.close()
        received = socket.socket(fileno=socket.recv_fds(there, 1, 1)[1][0])
        received.settimeout(3)
        try:
            received.connect((address, port))
            there.sendall(answer(received).encode())
        except OSError as error:
            there.sendall(errno.errorcode[error.errno].encode())
        os._exit(0)
    os.waitpid(child, 0)
    return here.recv(99).decode()

def again():
    # Connected elsewhere, let go (AF_UNSPEC), and connected here.
    connection = tcp()
    to(connection, others[0])
    libc = ctypes.CDLL(None, use_errno=True)
    nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
    if libc.connect(connection.fileno(), nowhere, len(nowhere)):
        raise OSError(ctypes.get_errno(), "let go")
    connection.settimeout(3)
    return to(connection)

def io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.mmap.restype = ctypes.c_void_p
    parameters = (ctypes.c_uint32 * 30)()
    ring = libc.syscall(425, 2, parameters)
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    def shared(size, offset):
        return libc.mmap(None, size, 3, 0x8001, ctypes.c_int(ring), ctypes.c_long(offset))
    submission, completion = list(parameters[10:20]), list(parameters[20:30])
    sq = shared(submission[6] + 4 * parameters[0], 0)
    cq = shared(completion[5] + 16 * parameters[1], 0x8000000)
    sqes = shared(64 * parameters[0], 0x10000000)
    connection = tcp()
    connection.setblocking(True)
    where = struct.pack(
        "=HHI16sI" if v6 else "=HH4s8x",
        family, socket.htons(port), *((0,) if v6 else ()), socket.inet_pton(family, address),
        *((0,) if v6 else ()),
    )
    held = ctypes.create_string_buffer(where, len(where))
    entry = struct.pack(
        "=BBHiQQIIQ24x", 16, 0, 0, connection.fileno(), len(where), ctypes.addressof(held), 0, 0, 7
    )
    ctypes.memmove(sqes, entry, 64)
    word = lambda base, offset: ctypes.c_uint32.from_address(base + offset)
    word(sq, submission[6]).value = 0
    word(sq, submission[1]).value += 1
    if libc.syscall(426, ring, 1, 1, 1, None, 0) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_enter")
    result = ctypes.c_int32.from_address(cq + completion[5] + 8).value
    if result < 0:
        raise OSError(-result, "io_uring connect")
    return answer(connection)

def udp(family=family):
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(3)
    return made

def udp_sendto():
    endpoint = udp()
    endpoint.sendto(b"x", (address, port))
    return answer(endpoint)

def udp_connected():
    endpoint = udp()
    endpoint.connect((address, port))
    endpoint.send(b"x")
    return answer(endpoint)

def udp_mapped():
    endpoint = udp(socket.AF_INET6)
    endpoint.sendto(b"x", (address if v6 else "::ffff:" + address, port))
    return answer(endpoint)

def udp_sendmmsg():
    endpoint = udp()
    libc = ctypes.CDLL(None, use_errno=True)
    def name(address):
        packed = socket.inet_pton(family, address)
        if v6:
            return struct.pack("=HHI16sI", family, socket.htons(port), 0, packed, 0)
        return struct.pack("=HH4s8x", family, socket.htons(port), packed)
    names = [ctypes.create_string_buffer(name(a)) for a in (others[0], address)]
    text = ctypes.create_string_buffer(b"x", 1)
    iov = struct.pack("=QQ", ctypes.addressof(text), 1)
    vector = ctypes.create_string_buffer(iov, 16)
    size = 28 if v6 else 16
    header = b"".join(
        struct.pack("=QI4xQQ24xI4x", ctypes.addressof(n), size, ctypes.addressof(vector), 1, 0)
        for n in names
    )
    messages = ctypes.create_string_buffer(header, len(header))
    sent = libc.sendmmsg(endpoint.fileno(), messages, 2, 0)
    if sent < 2:  # the second was refused; its error comes with the next call
        raise OSError(ctypes.get_errno() or errno.EPERM, "sendmmsg")
    both = {answer(endpoint), answer(endpoint)}
    return (both - {"other"}).pop()

def udp_reconnected():
    endpoint = udp()
    endpoint.connect((others[0], port))
    endpoint.send(b"x")
    answer(endpoint)
    endpoint.connect((address, port))
    endpoint.send(b"x")
    return answer(endpoint)

def udp_connected_sendto():
    endpoint = udp()
    endpoint.connect((others[0], port))
    endpoint.sendto(b"x", (address, port))
    return "open"  # the answer is not from whom it is connected to, and so is not heard

def udp_segmented():
    endpoint = udp()
    endpoint.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
    endpoint.connect((address, port))
    endpoint.send(b"x" * 300)
    return answer(endpoint)

try:
    print(globals()[way.replace("-", "_")]())
except OSError as error:
    print(errno.errorcode.get(error.errno or 0, type(error).__name__))
"""
