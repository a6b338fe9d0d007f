"""Fixtures of the system tests."""

import os

import pytest

from peal import Peal, program


def pytest_configure():
    """One clear line instead of the same failure in every test."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # who started this one has looked
    try:
        program()
    except FileNotFoundError as missing:
        pytest.exit(str(missing), returncode=1)


@pytest.fixture
def start_peal(tmp_path):
    """start_peal(config={...}, args=[...]): starts servers that end with the test.

    The test fails when one of them ended by itself, does not stop cleanly, or reported a bug."""
    servers = []

    def start(config=None, **options):
        server = Peal(tmp_path / f"peal{len(servers)}", config, **options)
        servers.append(server)
        return server.start()

    yield start
    problems = []
    for server in servers:
        try:
            server.finish()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture
def start_cluster(start_peal):
    """start_cluster(nodes=2, config={...}): (router, [node, ...]) over TCP on free ports."""

    def start(nodes=2, config=None, **options):
        router = start_peal(config, verb="router", **options)
        doors = {"cluster": {"routers": [router.doors]}}
        return router, [
            start_peal({**(config or {}), **doors}, verb="node", **options) for _ in range(nodes)
        ]

    return start


@pytest.fixture
def peal(start_peal):
    """A server with the settings of `peal dev`."""
    return start_peal()
