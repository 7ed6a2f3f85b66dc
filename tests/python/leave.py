"""`leave.py TIMES PATH`: an in-cluster client that opens a watch over HTTP/1.1, reads the head of the answer and leaves,
so many times, one after the other. It has read all there was, so that it leaves with a FIN and no reset. Writes one
JSON line at the end."""

import json
import os
import socket
import ssl
import sys

SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount/"


def main(times, path):
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    context = ssl.create_default_context(cafile=SECRETS + "ca.crt")
    with open(SECRETS + "token") as file:
        token = file.read()
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    answered = 0
    for _ in range(int(times)):
        with context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=host) as connection:
            connection.sendall(request)
            answered += connection.recv(65536).startswith(b"HTTP/1.1 200")
    print(json.dumps({"answered": answered}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
