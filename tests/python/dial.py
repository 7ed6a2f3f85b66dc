"""Connects in every way a client may, and says where it came out. Standard library only.

Each line of output is one JSON object. A dial prints {"said", "peer", "ms"} or {"error", "ms"}: `said` is the line
that the other end sent, `peer` what getpeername shows.
"""

import argparse
import ctypes
import errno
import json
import mmap
import os
import select
import socket
import struct
import sys
import time

IPPROTO_MPTCP = 262
TCP_FASTOPEN_CONNECT = 30
LIBC = ctypes.CDLL(None, use_errno=True)


def tell(**what):
    print(json.dumps(what), flush=True)


def name(error):
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno, str(error))


def make(args, mapped):
    family = socket.AF_INET6 if mapped or ":" in args.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP if args.mptcp else 0)
    sock.settimeout(args.timeout)
    if args.device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, args.device.encode() + b"\0")
    if args.bind:
        sock.bind((args.bind, 0))
    if args.tfo:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    return sock


def connect(sock, args, mapped):
    address = ("::ffff:" + args.host if mapped else args.host, args.port)
    if args.io_uring:
        uring_connect(sock, args.host, args.port)
    elif args.nonblock:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        if not select.select([], [sock], [], args.timeout)[1]:
            raise TimeoutError
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        sock.settimeout(args.timeout)
    else:
        sock.connect(address)


def heard(sock):
    """What the other end says, which speaks when it was spoken to."""
    sock.sendall(b"hello\n")
    return sock.recv(256).decode().strip()


def dial(args, mapped=False):
    started = time.monotonic()
    spent = lambda: round(1000 * (time.monotonic() - started), 2)
    sock = make(args, mapped)
    try:
        connect(sock, args, mapped)
    except OSError as error:
        tell(error=name(error), ms=spent())
        return sock
    try:
        tell(said=heard(sock), peer=sock.getpeername()[0], ms=spent())
    except OSError as error:
        tell(error="after connect: " + name(error), ms=spent())
    return sock


def unspecified(sock):
    """connect() to AF_UNSPEC takes a TCP socket back to where it began."""
    if LIBC.connect(sock.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16):
        raise OSError(ctypes.get_errno(), "connect to AF_UNSPEC")


def again(args):
    """One socket: to the destination, then to another address, then to the destination."""
    sock = make(args, False)
    for host, port in [(args.host, args.port), (args.other, args.other_port), (args.host, args.port)]:
        sock.connect((host, port))
        tell(peer=sock.getpeername()[0], said=heard(sock))
        unspecified(sock)


def load(args):
    """Dials without pause; a connect that fails and a connection that breaks are told apart."""
    told = {"holdfast": 0, "direct": 0, "connect_errors": 0, "broken": 0, "worst_ms": 0.0, "errors": []}
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        started = time.monotonic()
        with make(args, False) as sock:
            try:
                sock.connect((args.host, args.port))
            except OSError as error:
                told["connect_errors"] += 1
                told["errors"].append(name(error))
                continue
            told["worst_ms"] = max(told["worst_ms"], 1000 * (time.monotonic() - started))
            try:
                word = (heard(sock).split() or ["broken"])[0]
                told[word if word in told else "broken"] += 1
            except OSError:
                told["broken"] += 1
    tell(**told)


def serve(args):
    """A server that says one word to each who speaks to it."""
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    server = socket.create_server((args.host, args.port), family=family)
    tell(serving=args.port)
    while True:
        peer, _ = server.accept()
        with peer:
            peer.settimeout(args.timeout)
            try:
                peer.recv(256)
                peer.sendall(args.word.encode() + b"\n")
            except OSError:
                pass


def forge(args):
    """In a namespace of its own inside the pod's: a listener on Holdfast's port, then a dial from there."""
    if LIBC.unshare(0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    os.system("ip link set lo up")
    server = socket.create_server(("127.0.0.1", args.other_port))
    server.setblocking(False)
    for _ in range(args.times):
        dial(args)
        time.sleep(0.1)
    try:
        server.accept()
        tell(forged="accepted")
    except BlockingIOError:
        tell(forged="never asked")


def hold(args):
    sock = dial(args)
    sock.settimeout(None)
    tell(ended=sock.recv(1).decode())


def repeat(args):
    """Until the destination answers; the number of tries that failed before."""
    for failed in range(args.times):
        sock = make(args, False)
        try:
            sock.connect((args.host, args.port))
            tell(failed=failed, said=heard(sock))
            return
        except OSError:
            time.sleep(0.02)
    tell(failed=args.times)


def uring_connect(sock, host, port):
    """IORING_OP_CONNECT by hand: one ring, one submission, one completion. Layouts by linux/io_uring.h."""
    setup, enter, op_connect = 425, 426, 16
    params = (ctypes.c_uint8 * 120)()
    ring = LIBC.syscall(setup, 4, ctypes.byref(params))
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    fields = struct.unpack_from("=10I", params)
    entries, completions = fields[0], fields[1]
    sq, cq = struct.unpack_from("=10I", params, 40), struct.unpack_from("=10I", params, 80)
    sq_map = mmap.mmap(ring, sq[6] + entries * 4, offset=0)
    cq_map = mmap.mmap(ring, cq[5] + completions * 16, offset=0x8000000)
    sqes = mmap.mmap(ring, entries * 64, offset=0x10000000)
    address = ctypes.create_string_buffer(
        struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8), 16
    )
    # opcode, flags, ioprio, fd, off (address length), addr, len
    struct.pack_into("=BBHiQQI", sqes, 0, op_connect, 0, 0, sock.fileno(), 16, ctypes.addressof(address), 0)
    sock.setblocking(True)
    struct.pack_into("=I", sq_map, sq[6], 0)
    struct.pack_into("=I", sq_map, sq[1], 1)
    if LIBC.syscall(enter, ring, 1, 1, 1, None, 0) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_enter")
    _, result = struct.unpack_from("=Qi", cq_map, cq[5])
    os.close(ring)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    sock.settimeout(10)


def query(args):
    """How many programs are attached to a cgroup folder, by hook. Attach types by linux/bpf.h."""
    folder = os.open(args.host, os.O_RDONLY)
    counts = {}
    for hook, kind in {"connect4": 10, "connect6": 11, "getpeername4": 29, "getpeername6": 30}.items():
        # target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt
        attr = ctypes.create_string_buffer(struct.pack("=IIIIQI", folder, kind, 0, 0, 0, 0), 128)
        bpf, prog_query = 321, 16
        if LIBC.syscall(bpf, prog_query, attr, 128) < 0:
            raise OSError(ctypes.get_errno(), "BPF_PROG_QUERY")
        counts[hook] = struct.unpack_from("=I", attr, 24)[0]
    tell(**counts)


def main():
    parser = argparse.ArgumentParser()
    verbs = {
        "dial": dial,
        "mapped": lambda args: dial(args, mapped=True),
        "again": again,
        "load": load,
        "serve": serve,
        "forge": forge,
        "hold": hold,
        "repeat": repeat,
        "query": query,
    }
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("host")
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("--word", default="forged")
    parser.add_argument("--other")
    parser.add_argument("--other-port", type=int)
    parser.add_argument("--bind")
    parser.add_argument("--device")
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=5)
    for flag in ["nonblock", "tfo", "mptcp", "io-uring"]:
        parser.add_argument("--" + flag, action="store_true")
    args = parser.parse_args()
    verbs[args.verb](args)


if __name__ == "__main__":
    sys.exit(main())
