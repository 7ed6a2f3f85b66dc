"""Dials a server as strictly as Python can, trusting one CA alone: tls_strict.py HOST PORT CA NAME_OR_ADDRESS"""

import socket
import ssl
import sys

host, port, ca, name = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.verify_flags |= ssl.VERIFY_X509_STRICT
context.set_alpn_protocols(["h2", "http/1.1"])
try:
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        # An address as the name is verified against the certificate's addresses, and no SNI is sent.
        with context.wrap_socket(plain, server_hostname=name) as tls:
            answer = b""
            while chunk := tls.recv(4096):
                answer += chunk
            print(answer.decode(), tls.selected_alpn_protocol())
except (OSError, ssl.SSLError) as error:
    sys.exit(str(error))
