"""argv: kind (tcp or udp), address, port, count. So many sockets connect(), without waiting for what becomes of it."""

import socket
import struct
import sys

kind, address, port, count = sys.argv[1:]
types = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
for _ in range(int(count)):
    with socket.socket(socket.AF_INET, types[kind]) as one:
        one.setblocking(False)
        # Closed by a reset, so that no port is kept for minutes.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.connect_ex((address, int(port)))
