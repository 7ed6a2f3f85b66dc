"""Upgrades as raw bytes, with the standard library alone.

`echo ADDRESS PORT`: a server that answers an upgrade with 101 and then echoes in capitals.

`dial METHOD PATH PROTOCOL [HEADER...]`: an in-cluster client that asks for an upgrade and writes one JSON line for the
head of the answer. After a 101 to `websocket` it writes one line per message; after any other 101 it sends `hello`
and writes what came back, then how the stream ended.
"""

import base64
import json
import os
import socket
import ssl
import struct
import sys

SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount/"


def say(**fields):
    print(json.dumps(fields), flush=True)


def head_of(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.read(1)
        if not byte:
            break
        head += byte
    return head.decode()


def echo(address, port):
    listener = socket.create_server((address, int(port)))
    say(listening=True)
    while True:
        connection, _ = listener.accept()
        stream = connection.makefile("rb")
        head = head_of(stream)
        protocol = next(
            (line.split(":")[1].strip() for line in head.split("\r\n") if line.lower().startswith("upgrade:")), ""
        )
        answer = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        connection.sendall(answer.encode())
        while data := stream.read1(65536):
            connection.sendall(data.upper())
        connection.close()


def dial(method, path, protocol, *headers):
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    context = ssl.create_default_context(cafile=SECRETS + "ca.crt")
    with open(SECRETS + "token") as file:
        token = file.read()
    connection = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
    request = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}"]
    request += ["Connection: Upgrade", f"Upgrade: {protocol}", *headers]
    if protocol == "websocket":
        key = base64.b64encode(os.urandom(16)).decode()
        # The API server's WebSocket library answers 403 to a handshake without an origin.
        request += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Origin: https://{host}"]
    connection.sendall(("\r\n".join(request) + "\r\n\r\n").encode())
    stream = connection.makefile("rb")
    head = head_of(stream)
    status = int(head.split(" ")[1])
    say(status=status, head=head)
    if status != 101:
        say(body=stream.read1(65536).decode(errors="replace"))
    elif protocol == "websocket":
        messages(stream)
    else:
        connection.sendall(b"hello")
        answer = stream.read(5)
        say(echoed=answer.decode())
        try:
            rest = stream.read()
        except (OSError, ssl.SSLError):
            rest = b""
        say(ended=True, rest=rest.decode(errors="replace"))


def messages(stream):
    while header := stream.read(2):
        length = header[1] & 127
        if length == 126:
            (length,) = struct.unpack(">H", stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", stream.read(8))
        payload = stream.read(length)
        if header[0] & 15 in (1, 2):
            event = json.loads(payload)
            say(event=event["type"], name=event["object"]["metadata"].get("name"))
        elif header[0] & 15 == 8:
            break
    say(ended=True)


if __name__ == "__main__":
    {"echo": echo, "dial": dial}[sys.argv[1]](*sys.argv[2:])
