"""A long road: two TUN devices, and what goes into the one comes out of the other so much later.

argv: milliseconds in one direction; for each end its network namespace, its address, and the address of the other end.
Run as root. Says `ready` when packets take the road; it is gone with the process. Not every kernel has netem.
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET = 65536


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def end(name, netns, address, other):
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    ip("link", "set", name, "netns", netns)
    ip("-n", netns, "link", "set", name, "up")
    ip("-n", netns, "route", "add", f"{other}/32", "dev", name, "src", address)
    return device


def main():
    delay = float(sys.argv[1]) / 1e3
    here = end(f"far{os.getpid()}a", *sys.argv[2:5])
    there = end(f"far{os.getpid()}b", *sys.argv[5:8])
    print("ready", flush=True)
    across = {here: there, there: here}
    on_the_way = collections.deque()
    while True:
        wait = on_the_way[0][0] - time.monotonic() if on_the_way else None
        come, _, _ = select.select(list(across), [], [], wait and max(wait, 0))
        for device in come:
            on_the_way.append((time.monotonic() + delay, across[device], os.read(device, PACKET)))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, device, packet = on_the_way.popleft()
            os.write(device, packet)


main()
