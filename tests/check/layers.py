#!/usr/bin/python3
"""Checks who includes whom: layers.py [ROOT] prints each include that is not allowed.

The folders are the architecture (docs/ARCHITECTURE.md): base <- proto <- {storage, router,
node} <- cli. A third-party header is included only by the files that wrap its library, so that
everything else can be read, tested and ported without it.
"""

import pathlib
import re
import sys

# Folder -> the project folders that its files may include.
MAY_INCLUDE = {
    "base": {"base"},
    "proto": {"base", "proto"},
    "storage": {"base", "proto", "storage"},
    "router": {"base", "proto", "router"},
    "node": {"base", "proto", "node"},
    "clients": {"base", "clients"},
    "cli": {"base", "proto", "storage", "router", "node", "clients", "cli"},
}

# The crossings between siblings: (folder, header).
CROSSINGS = {("router", "storage/store.h")}

# Third-party header (a prefix) -> the files that wrap it (fnmatch patterns of pathlib).
WRAPPERS = {
    "libwebsockets.h": ["node/http.c", "clients/c/*"],
    "zmq.h": [
        "base/bus_socket.c",
        "base/bus_wait.c",
        "node/bus.c",
        "router/ingress.c",
        "router/operator.c",
        "router/relay.c",
        "router/zap.c",
        "clients/c/*",
    ],
    "czmq.h": [],
    "lmdb.h": ["storage/db.c"],
    "msgpack": [
        "proto/packed.c",
        "proto/publish.c",
        "proto/door.c",
        "clients/c/*",
    ],
    "jansson.h": ["proto/json_check.c", "proto/token.c", "cli/*", "clients/c/*"],
    "cjose/": ["proto/token.c"],
    "uv.h": ["node/worker.c", "node/http.c"],
    "yaml.h": ["base/config*.c"],
    "cyaml": ["base/config*.c"],
    "microhttpd.h": ["base/status.c"],
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def without_comments(text):
    """The text with comments blanked out, line for line."""
    return COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def wrong_with(path, quote, header):
    """Why the file at path (relative to the project) may not include header, or None."""
    folder = path.parts[0]
    target = header.split("/")[0]
    if target in MAY_INCLUDE and "/" in header:
        if target in MAY_INCLUDE[folder] or (folder, header) in CROSSINGS:
            return None
        return f"{folder}/ must not include {target}/"
    if quote == '"':
        return "project headers are included by folder, and only from the program's own folders"
    for prefix, files in WRAPPERS.items():
        if header.startswith(prefix) and not any(path.match(pattern) for pattern in files):
            return f"only {', '.join(files) or 'nobody'} may include it"
    return None


def problems(root):
    """Yields one line for each include in the tree at root that is not allowed."""
    root = pathlib.Path(root)
    for folder in MAY_INCLUDE:
        for path in sorted((root / folder).rglob("*.[ch]")):
            text = without_comments(path.read_text(encoding="utf-8"))
            relative = path.relative_to(root)
            for number, line in enumerate(text.split("\n"), 1):
                match = INCLUDE.match(line)
                why = wrong_with(relative, *match.groups()) if match else None
                if why:
                    yield f"{relative}:{number}: {match.group(2)}: {why}"


def main():
    found = list(problems(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
