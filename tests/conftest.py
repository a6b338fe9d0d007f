"""What all tests in Python have in common: a network of its own for each worker of pytest-xdist."""

import os

from net import enter_new_network


def pytest_configure():
    """Servers that a test starts again need the ports that they had, and the kernel gives out free
    ones to whoever asks. Where only one test runs at a time nobody else asks."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        enter_new_network()
