"""An in-cluster Python client as its users write them: it knows the API server
only from load_incluster_config. One JSON object a line for all that happens:
`t` (unix milliseconds), `event`, and fields as tests/go/informer names them.

Exit code: 0 if the last call went well, 1 if not.
"""

import argparse
import json
import signal
import ssl
import sys
import time

from kubernetes import client, config, watch


def main():
    options = parse()
    # A test ends a watch with SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config.load_incluster_config()
    api_client = client.ApiClient()
    if options.strict:
        be_strict(api_client)
    target = Target(api_client, options)
    mode = {"get": get, "list": list_, "watch": watch_, "create": create}[options.mode]
    return 0 if mode(target, options) else 1


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["get", "list", "watch", "create"])
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--resource", default="configmaps", help="configmaps, pods, or GROUP/VERSION/PLURAL")
    parser.add_argument("--name", help="of get and create")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between calls")
    parser.add_argument("--count", type=int, default=1, help="calls of get and list; 0: until SIGTERM")
    parser.add_argument("--seconds", type=int, help="timeoutSeconds of a watch; default: the server's choice")
    parser.add_argument("--rv", help="of a watch; default: none, the server sends what there is")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for one get, list or create")
    parser.add_argument("--strict", action="store_true", help="verify certificates as Python 3.13 does by default")
    options = parser.parse_args()
    if options.mode in ("get", "create") and not options.name:
        parser.error(f"{options.mode} needs --name")
    return options


def be_strict(api_client):
    """RFC 5280 to the letter, and the CA file as trust anchors whatever they are."""
    context = ssl.create_default_context(cafile=api_client.configuration.ssl_ca_cert)
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    api_client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = context


class Target:
    """The calls for one resource, and the arguments they all take."""

    def __init__(self, api_client, options):
        self.resource = options.resource
        self.namespace = options.namespace
        self.core = client.CoreV1Api(api_client)
        if "/" in options.resource:
            group, version, plural = options.resource.split("/")
            custom = client.CustomObjectsApi(api_client)
            self.reads = custom.get_namespaced_custom_object
            self.lists = custom.list_namespaced_custom_object
            self.keys = {"group": group, "version": version, "namespace": options.namespace, "plural": plural}
        else:
            kind = {"configmaps": "config_map", "pods": "pod"}[options.resource]
            self.reads = getattr(self.core, f"read_namespaced_{kind}")
            self.lists = getattr(self.core, f"list_namespaced_{kind}")
            self.keys = {"namespace": options.namespace}


def get(target, options):
    def call():
        found = target.reads(name=options.name, _request_timeout=options.timeout, **target.keys)
        return metadata(found)

    return repeat("get", target, options, call, name=options.name)


def list_(target, options):
    def call():
        found = target.lists(_request_timeout=options.timeout, **target.keys)
        items = found["items"] if isinstance(found, dict) else found.items
        return {"items": len(items), "rv": metadata(found)["rv"], "names": [metadata(i)["name"] for i in items]}

    return repeat("list", target, options, call)


def create(target, options):
    def call():
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=options.name), data={"made": "by a pod"})
        made = target.core.create_namespaced_config_map(
            options.namespace, body, _request_timeout=options.timeout
        )
        return {"code": 201, **metadata(made)}

    return repeat("create", target, options, call, name=options.name)


def watch_(target, options):
    more = {"timeout_seconds": options.seconds} if options.seconds else {}
    if options.rv:
        more["resource_version"] = options.rv
    start = time.monotonic()
    names = {"ADDED": "add", "MODIFIED": "update", "DELETED": "delete", "BOOKMARK": "bookmark"}
    try:
        for event in watch.Watch().stream(target.lists, **target.keys, **more):
            say(names[event["type"]], resource=target.resource, **metadata(event["raw_object"]))
    except Exception as error:  # Whatever it is, the test wants to see it.
        say("watch-error", resource=target.resource, ms=since(start), **problem(error))
        return False
    say("watch-close", resource=target.resource, ms=since(start))
    return True


def repeat(event, target, options, call, **fields):
    done, ok = 0, False
    while options.count == 0 or done < options.count:
        if done:
            time.sleep(options.every)
        start = time.monotonic()
        try:
            found, ok = {"code": 200, **call()}, True
        except Exception as error:  # Whatever it is, the test wants to see it.
            found, ok = problem(error), False
        named = {"resource": target.resource, "namespace": target.namespace, **fields}
        say(event, ms=since(start), **{**named, **found})
        done += 1
    return ok


def metadata(thing):
    if not isinstance(thing, dict):
        thing = client.ApiClient().sanitize_for_serialization(thing)
    meta = thing["metadata"]
    keys = {"name": "name", "namespace": "namespace", "uid": "uid", "resourceVersion": "rv"}
    return {short: meta[key] for key, short in keys.items() if key in meta}


def problem(error):
    found = {"error": f"{type(error).__name__}: {error}"}
    if isinstance(error, client.ApiException):
        found["error"] = f"{error.status} {error.reason}"
        found["code"] = error.status
        try:
            status = json.loads(error.body)
            found["reason"] = status["reason"]
            found["error"] = status["message"]
        except (TypeError, ValueError, KeyError):
            pass
    return found


def since(start):
    return round((time.monotonic() - start) * 1000, 3)


def say(event, **fields):
    print(json.dumps({"t": int(time.time() * 1000), "event": event, **fields}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
