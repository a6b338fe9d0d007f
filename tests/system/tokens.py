"""tests/system/tokens.py: JSON web tokens, good ones and bad ones, made by a library of others."""

import time

import jwt

from peal import SECRET


def token(user, secret=SECRET, ttl_s=3600, algorithm="HS256", headers=None, **claims):
    """A signed token for user. A claim given as None is left out."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + ttl_s, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers)
