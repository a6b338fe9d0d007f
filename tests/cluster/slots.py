"""tests/cluster/slots.py: which router owns a group, by docs/ARCHITECTURE.md and not by our code."""

import ctypes

_xxhash = ctypes.CDLL("libxxhash.so.0")
_xxhash.XXH3_64bits.restype = ctypes.c_uint64
_xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def slot(group):
    """0..1023"""
    name = group.encode()
    return _xxhash.XXH3_64bits(name, len(name)) >> 54


def owner(group, routers):
    """The number of the router, with slots split evenly."""
    return slot(group) * routers // 1024
