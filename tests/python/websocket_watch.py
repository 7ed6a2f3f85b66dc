"""A watch over WebSocket by a real client of it, in cluster.

`websocket_watch.py PATH [ACCEPT]` writes one JSON line for the answer to its handshake (status, its headers, the body of a
refusal), one for each message (opcode, type and name of the event), one for the pong to the ping that it sends after the
first bookmark, and one for the end, with the code of the server's close.
"""

import json
import os
import sys

import websocket

SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount/"


def say(**fields):
    print(json.dumps(fields), flush=True)


def event(opcode, data):
    if opcode == websocket.ABNF.OPCODE_TEXT:
        read = json.loads(data)
        meta = read["object"]["metadata"] if read["type"] != "ERROR" else {}
        return {"event": read["type"], "name": meta.get("name"), "line": data.endswith(b"\n")}
    # WatchEvent: field 1 is the type.
    return {"event": data[2 : 2 + data[1]].decode()}


def main(path, accept="application/json"):
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    with open(SECRETS + "token") as file:
        token = file.read()
    client = websocket.WebSocket(sslopt={"ca_certs": SECRETS + "ca.crt"})
    try:
        client.connect(
            f"wss://{host}:{port}{path}",
            header=[f"Authorization: Bearer {token}", f"Accept: {accept}"],
            origin=f"https://{host}",
        )
    except websocket.WebSocketBadStatusException as refused:
        body = refused.resp_body
        say(status=refused.status_code, body=body.decode() if isinstance(body, bytes) else body)
        return
    say(status=client.status, headers=dict(client.headers))
    pinged = False
    while True:
        try:
            opcode, frame = client.recv_data_frame(control_frame=True)
        except (websocket.WebSocketException, OSError) as error:
            say(ended=True, error=str(error))
            return
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            say(ended=True, code=int.from_bytes(frame.data[:2], "big"))
            return
        if opcode == websocket.ABNF.OPCODE_PONG:
            say(pong=frame.data.decode())
            continue
        told = event(opcode, frame.data)
        say(opcode=opcode, **told)
        if told["event"] == "BOOKMARK" and not pinged:
            pinged = True
            client.ping("are you there?")


if __name__ == "__main__":
    main(*sys.argv[1:])
