"""tests/system/web.py: HTTP as a backend, a browser and an attacker speak it."""

import http.client
import json
import socket
import urllib.parse

TIMEOUT_S = 30


class Answer:
    """status, headers (lower-case names), body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Http:
    """Requests to one address; each on a connection of its own."""

    def __init__(self, url, headers=None):
        self.url = url
        self.headers = headers or {}

    def request(self, method, path, body=None, headers=None):
        """body: bytes or text as it is, anything else as JSON."""
        headers = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body, ensure_ascii=False)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(self, path, body=None, headers=None):
        return self.request("POST", path, body, headers)

    @property
    def address(self):
        return urllib.parse.urlsplit(self.url).netloc

    def connect(self):
        """A plain TCP connection, for requests that no library would send."""
        host, port = self.address.rsplit(":", 1)
        return socket.create_connection((host, int(port)), TIMEOUT_S)

    def exchange(self, raw):
        """Sends raw bytes; returns all that comes until the server closes."""
        with self.connect() as sock:
            sock.sendall(raw)
            return read_to_end(sock)


def read_to_end(sock):
    """What comes until the other side closes. A reset is an end as well."""
    parts = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)
