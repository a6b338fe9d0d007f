#!/usr/bin/python3
"""Starts routers, nodes and nginx on this machine, for a person with a browser.

./dev cluster [ROUTERS [NODES]]

Two routers and two nodes by default. The page at the address that is printed connects through
nginx to any of the nodes; kill one of the processes by its pid and see what the page says. What
the cluster stores is in a folder that goes with it. Ctrl-C ends all of them.
"""

import argparse
import http.server
import json
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading

from peal import API_KEY, ROOT
from rig import Rig
from tokens import token

PAGE = ROOT / "clients/demo/index.html"

# Nodes hand out neither: they are for `peal dev`. Here nginx gets both from this process.
LOCATIONS = """
        location = / {{ proxy_pass http://{address}; }}
        location = /dev/token {{ proxy_pass http://{address}; }}
"""


class Helper(http.server.BaseHTTPRequestHandler):
    """The page, and a token for whoever asks."""

    def do_GET(self):
        self._answer("text/html; charset=utf-8", PAGE.read_bytes())

    def do_POST(self):
        size = min(int(self.headers.get("Content-Length", 0)), 4096)
        try:
            user = json.loads(self.rfile.read(size))["user"]
            body = {"token": token(user)}
        except (ValueError, KeyError, TypeError):
            return self.send_error(400, "a user is needed")
        self._answer("application/json", json.dumps(body).encode())

    def _answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def number_in(least, most):
    def read(text):
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number from {least} to {most}")
        return int(text)

    return read


def check_port(parser, port):
    """Before anything is started: nginx would tell when all else runs."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as taken:
        parser.error(f"port {port}: {os.strerror(taken.errno).lower()}; --port names another, 0 any")


def show(rig, front):
    """What runs, and how to use it."""
    print(f"page     {front.url}/")
    for verb, servers in (("router", rig.routers), ("node", rig.nodes)):
        for number, server in enumerate(servers):
            web = f"  web {server.url}" if server.url else ""
            doors = "".join(f"  {name} {door}" for name, door in server.doors.items())
            print(f"{verb} {number:<2}  pid {server.pid}  api {server.api_url}{web}{doors}")
    print(f"publish  curl {rig.nodes[0].api_url}/v1/publish -H 'Authorization: Bearer {API_KEY}' \\")
    print("""              -d '{"group": "room:lobby", "data": "hello"}'""")
    print(f"logs     {rig.directory}\nCtrl-C ends all of it", flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog="./dev cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = number_in(1, 16)
    parser.add_argument("routers", nargs="?", type=count, default=2, help="1 to 16 (default: 2)")
    parser.add_argument("nodes", nargs="?", type=count, default=2, help="1 to 16 (default: 2)")
    port = number_in(0, 65535)
    parser.add_argument("--port", type=port, default=8080, help="of nginx; 0: any (default: 8080)")
    parser.add_argument("--only-check", action="store_true", help=argparse.SUPPRESS)  # arguments
    options = parser.parse_args()
    check_port(parser, options.port)
    if options.only_check:
        return 0

    # Before anything is started: from here on each of them ends what was begun.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    helper = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Helper)
    threading.Thread(target=helper.serve_forever, daemon=True).start()
    locations = LOCATIONS.format(address=f"127.0.0.1:{helper.server_port}")
    with tempfile.TemporaryDirectory(prefix="peal-cluster-") as folder:
        # Each in a session of its own: Ctrl-C reaches this process, which ends them in order.
        own = ["setsid"]
        with Rig(pathlib.Path(folder), options.routers, options.nodes, wrapper=own) as rig:
            address = f"127.0.0.1:{options.port}"
            front = rig.put_in_front("nginx", address=address, locations=locations, wrapper=own)
            show(rig, front)
            stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
