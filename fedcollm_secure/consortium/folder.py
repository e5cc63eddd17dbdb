"""One party's folder: its keys, which never leave it, and the files that it was given or gives to others.

site.yaml  policy.yaml         what is its own, written by hand where the first draft does not fit
keys/identity.pem link.pem     private; encrypted where a passphrase was given
keys/link.crt                  shown on connections
invitation.json member.json    what it was invited by, and its answer: public
members/  roster-draft.json  roster.json  roster-hash
plans/DIGEST.json              plans that it made or was given
runs/SESSION/                  the coordinator's; sessions/SESSION/ a silo's journal and open round
"""

from dataclasses import dataclass
from pathlib import Path

from fedcollm_crypto import durable
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.canonical import encode as spelt
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_secure.consortium.certificates import make_certificate
from fedcollm_secure.errors import ConfigError

MOST_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True)
class MemberFolder:
    """The places in a party's folder."""

    path: Path

    @property
    def identity_file(self) -> Path:
        """Return where the key is that signs for this party."""
        return self.path / "keys" / "identity.pem"

    @property
    def link_key(self) -> Path:
        """Return where the key of its connections is."""
        return self.path / "keys" / "link.pem"

    @property
    def link_certificate(self) -> Path:
        """Return where the certificate of its connections is."""
        return self.path / "keys" / "link.crt"

    def make_keys(self, party: str, password: bytes | None, *, post_quantum: bool) -> Identity:
        """Draw this party's keys, here. Raises: ConfigError rather than overwrite any."""
        if self.identity_file.exists():
            raise ConfigError(str(self.identity_file), "this folder has keys already; name another folder with --in")
        durable.make_folder(self.identity_file.parent)
        self.identity_file.parent.chmod(0o700)
        identity = Identity.generate(party, post_quantum=post_quantum)
        identity.save(self.identity_file, password)
        make_certificate(party, self.link_key, self.link_certificate, password)
        return identity

    def identity(self, party: str, password: bytes | None) -> Identity:
        """Read the party's key. Raises: ConfigError where there is none, or the passphrase is not its own."""
        try:
            return Identity.load(party, self.identity_file, password)
        except FileNotFoundError:
            raise ConfigError(
                str(self.identity_file), "no key here: make one with consortium init, or consortium join"
            ) from None
        except ValueError:
            raise ConfigError(
                str(self.identity_file), "the key does not open: give its passphrase with --passphrase-file FILE"
            ) from None

    def write(self, name: str, data: bytes) -> Path:
        """Write a file whole, in the place of an older one."""
        path = self.path / name
        durable.make_folder(path.parent)
        durable.replace(path, data)
        return path

    def write_json(self, name: str, value: Json) -> Path:
        """Write canonical JSON (see `write`)."""
        return self.write(name, spelt(value))


def read_file(path: Path, what: str) -> bytes:
    """Return the bytes of a file that somebody was given. Raises: ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read ({error.strerror}); expected {what}") from error
    if len(data) > MOST_BYTES:
        raise ConfigError(str(path), f"is longer than {MOST_BYTES >> 20} MiB, where {what} is expected")
    return data


def not_one(path: Path, what: str, error: ProtocolError | ValueError) -> ConfigError:
    """Return the error for a file that is not what it should be."""
    return ConfigError(str(path), f"is not {what} that can be used: {error}")
