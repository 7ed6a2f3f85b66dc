"""Something between node and API server that answers every request with one status: gateway.py PORT CERT KEY STATUS."""

import http.server
import json
import ssl
import sys

port, cert, key, status = sys.argv[1:]


class Gateway(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = f"<html><body><h1>{status}</h1></body></html>\r\n".encode()
        self.send_response(int(status))
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(json.dumps({"event": "answered", "path": self.path}), flush=True)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
context.set_alpn_protocols(["http/1.1"])
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(port)), Gateway)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(json.dumps({"event": "listens"}), flush=True)
server.serve_forever()
