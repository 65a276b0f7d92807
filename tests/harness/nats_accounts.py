"""An operator, an account and users with JWTs, for a NATS server whose users log in with credentials files."""

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Final

import nkeys

_UNLIMITED: Final = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1}
_JETSTREAM: Final = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "wildcards": True}


def key_pair(prefix: int) -> nkeys.KeyPair:
    """Make a key pair of an operator, an account or a user."""
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), prefix)))


@dataclass
class Accounts:
    """One operator with one account that may use JetStream; `account_limits` replace those of the account."""

    account_limits: dict[str, int] = field(default_factory=dict)
    operator: nkeys.KeyPair = field(default_factory=lambda: key_pair(nkeys.PREFIX_BYTE_OPERATOR))
    account: nkeys.KeyPair = field(default_factory=lambda: key_pair(nkeys.PREFIX_BYTE_ACCOUNT))
    system: nkeys.KeyPair = field(default_factory=lambda: key_pair(nkeys.PREFIX_BYTE_ACCOUNT))

    def config(self) -> str:
        """Return the part of a server's configuration that names them."""
        operator = _jwt(self.operator, self.operator, {"type": "operator", "version": 2})
        limits = {**_UNLIMITED, **_JETSTREAM, **self.account_limits}
        account = _jwt(self.operator, self.account, {"limits": limits, "type": "account", "version": 2})
        system = _jwt(self.operator, self.system, {"limits": _UNLIMITED, "type": "account", "version": 2})
        names = {_public(self.account): account, _public(self.system): system}
        preload = "".join(f"{name}: {token}\n" for name, token in names.items())
        lines = [f"operator: {operator}", f"system_account: {_public(self.system)}", "resolver: MEMORY"]
        return "\n".join([*lines, f"resolver_preload: {{\n{preload}}}"])

    def credentials(self, valid_s: float | None = None) -> str:
        """Return the text of a credentials file of a new user, which expires after `valid_s` seconds."""
        user = key_pair(nkeys.PREFIX_BYTE_USER)
        expires = {} if valid_s is None else {"exp": int(time.time() + valid_s)}
        token = _jwt(
            self.account, user, {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}, **expires
        )
        seed = bytes(user.seed).decode()
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )


def _public(keys: nkeys.KeyPair) -> str:
    return bytes(keys.public_key).decode()


def _jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, nats: dict[str, Any], **more: int) -> str:
    claims = {"iat": int(time.time()), "iss": _public(issuer), "sub": _public(subject), "nats": nats, **more}
    digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    text = f"{_part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_part(claims)}"
    return f"{text}.{_base64(issuer.sign(text.encode()))}"


def _part(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
