"""Authentication and TLS for NATS: user and password, nkey seed, credentials file, certificates.

The files are read before any connection is tried. So a malformed file is reported as a wrong setting, and not as a
server that cannot be reached. They are read again for each connection, because they are renewed while the worker
runs: `SteadyClient.renew` calls `credentials` once more, and the login is signed with what the file holds then.
"""

import base64
import re
import ssl
from pathlib import Path
from typing import Any, Final

import nkeys

from worker.settings import Settings, WrongSetting

_CREDENTIALS: Final = re.compile(
    r"BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT.*"
    r"BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END USER NKEY SEED",
    re.DOTALL,
)


def credentials(settings: Settings) -> dict[str, Any]:
    """Return the options for nats-py; `WrongSetting` names the file that cannot be used."""
    options: dict[str, Any] = {}
    if (creds := settings.nats_creds_file) is not None:
        _read_credentials(creds)
        options["user_jwt_cb"] = lambda: _read_credentials(creds)[0]
        options["signature_cb"] = lambda nonce: _sign(_read_credentials(creds)[1], nonce)
    elif settings.nats_nkey_seed_file is not None:
        if not _is_seed(_read(settings.nats_nkey_seed_file)):
            raise WrongSetting("NATS_NKEY_SEED_FILE must be a file with a user's nkey seed")
        options["nkeys_seed"] = str(settings.nats_nkey_seed_file)
    if settings.nats_user is not None and settings.nats_password is not None:
        options |= {"user": settings.nats_user, "password": settings.nats_password.get_secret_value()}
    if settings.nats_tls_ca is not None or settings.nats_tls_cert is not None:
        options["tls"] = _tls(settings)
    return options


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca)
    except (ssl.SSLError, OSError):
        raise WrongSetting("NATS_TLS_CA must be a file of certificates in PEM form") from None
    try:
        if settings.nats_tls_cert is not None:
            # With no password at all, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key, password="")
    except (ssl.SSLError, OSError):
        raise WrongSetting("NATS_TLS_CERT and NATS_TLS_KEY must be a certificate and its key in PEM form") from None
    return context


def _read(file: Path) -> str:
    """Return the text of the file, empty if it cannot be read."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _read_credentials(file: Path) -> tuple[bytes, bytes]:
    """Return the user's JWT and seed. (nats-py would search a file without them for ever.)"""
    found = _CREDENTIALS.search(_read(file))
    if found is not None and _is_seed(found[2]):
        return found[1].encode(), found[2].encode()
    raise WrongSetting("NATS_CREDS_FILE must be a credentials file of nsc")


def _sign(seed: bytes, nonce: str) -> bytes:
    keys = nkeys.from_seed(bytearray(seed))
    signature = keys.sign(nonce.encode())
    keys.wipe()
    return base64.b64encode(signature)


def _is_seed(text: str) -> bool:
    """Tell whether it is a user's seed: seeds of accounts and operators cannot log in."""
    seed = text.encode().strip()
    try:
        nkeys.from_seed(bytearray(seed))
    except Exception:  # noqa: BLE001 - the library has many ways to say no
        return False
    return seed.startswith(b"SU")
