"""tests/cluster/front.py: nginx or HAProxy in front of the nodes, as Debian packages them.

Both look for a node that answers when one does not, and neither knows anything of sessions:
whichever node a client gets is the right one.
"""

import pathlib
import shutil
import signal
import socket
import subprocess
import time

NGINX = """
daemon off;
master_process off;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream nodes {{
        least_conn;
        {servers}
    }}
    map $http_upgrade $connection_header {{ default upgrade; '' close; }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_header;
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout http_503;
            proxy_read_timeout 60s;
        }}
        {locations}
    }}
}}
"""

HAPROXY = """
global
    maxconn {half}
defaults
    mode http
    balance leastconn
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 503
    default-server check inter 500ms fall 1 rise 1
frontend browsers
    bind {address}
    default_backend nodes
backend nodes
    option httpchk GET /livez
    {servers}
"""

FILES = 19500  # descriptors; two for each client


def free_ports(count, address="127.0.0.1"):
    """Ports that nobody listens on now; they differ."""
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def host_of(url):
    return url.split("://")[-1].rstrip("/")


class Front:
    """kind: nginx or haproxy. nodes: running ones. locations: more of nginx's server block."""

    def __init__(self, directory, kind, nodes, address="127.0.0.1:0", locations="", wrapper=()):
        self.kind = kind
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        host, port = address.rsplit(":", 1)
        self.address = f"{host}:{port if port != '0' else free_ports(1, host)[0]}"
        self.url = f"http://{self.address}"
        self._log = self.directory / f"{kind}.txt"
        self._wrapper = list(wrapper)
        self._process = None
        self._write(nodes, locations)

    def _write(self, nodes, locations):
        words = {"address": self.address, "folder": self.directory, "files": FILES}
        words.update(half=FILES // 2, locations=locations)
        hosts = [(host_of(node.url), host_of(node.api_url)) for node in nodes]
        if self.kind == "nginx":
            # nginx gives a node that failed one connection in each fail_timeout until one of those
            # has ended well. WebSockets do not end: a node that is back would stay as good as
            # idle. Refused connections cost nothing, so each of them may go to any node.
            lines = [f"server {web} max_fails=0;" for web, _ in hosts]
            text = NGINX.format(servers="\n        ".join(lines), **words)
        else:
            # /livez is on the API listener: that is the port that is asked.
            lines = [
                f"server node{i} {web} port {api.rsplit(':', 1)[1]}"
                for i, (web, api) in enumerate(hosts)
            ]
            text = HAPROXY.format(servers="\n    ".join(lines), **words)
        self._config = self.directory / f"{self.kind}.conf"
        self._config.write_text(text)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        program = shutil.which(self.kind, path="/usr/sbin:/usr/bin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError(f"no {self.kind}; ./dev setup installs it")
        how = {"nginx": ["-p", self.directory, "-c"], "haproxy": ["-db", "-f"]}[self.kind]
        command = [*self._wrapper, program, *how, self._config]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_listening()
        return self

    def _wait_listening(self, deadline_s=10):
        host, port = self.address.rsplit(":", 1)
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                return socket.create_connection((host, int(port)), 1).close()
            except OSError:
                over = time.monotonic() > deadline
            if over or self._process.poll() is not None:
                self.stop()
                raise RuntimeError(f"{self.kind} does not listen\n{self._log.read_text()}")
            time.sleep(0.02)

    def stop(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
