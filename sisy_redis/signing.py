"""The secret keys that sign definitions, and what a signature says. The keys never show in a repr, error or log."""

import hmac
from collections.abc import Sequence
from typing import Any

from sisy_redis.definitions import Seal

SIGNATURE_BYTES = 32


class Keyring:
    """Secret keys: the first signs, all verify. Two keyrings of the same keys are equal."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)

    def sign(self, message: bytes) -> bytes:
        """HMAC-SHA256 of the message with the first key."""
        return hmac.digest(self._keys[0], message, "sha256")

    def check(self, message: bytes, signature: bytes) -> Seal:
        """Which key signed the message: the first (current), another (former), or none of them (wrong)."""
        for i, key in enumerate(self._keys):
            if hmac.compare_digest(hmac.digest(key, message, "sha256"), signature):
                return Seal.FORMER if i else Seal.CURRENT
        return Seal.WRONG

    def reveal(self) -> str:
        """The keys as the setting takes them: only for handing them to a child through a pipe."""
        return ",".join(key.decode() for key in self._keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and self._keys == other._keys

    def __hash__(self) -> int:
        return hash(self._keys)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} secret key(s)>"

    def __reduce__(self) -> Any:
        # Whatever stores or sends objects must not store or send these.
        raise TypeError("secret keys are not pickled")

    def __copy__(self) -> "Keyring":
        return self

    def __deepcopy__(self, _memo: object) -> "Keyring":
        return self


class Signer:
    """Signs and checks the definitions of one namespace: those of another do not verify here."""

    __slots__ = ("keyring", "namespace")

    def __init__(self, keyring: Keyring, namespace: str) -> None:
        self.keyring, self.namespace = keyring, namespace

    def __repr__(self) -> str:
        return f"Signer({self.namespace!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signer) and (self.keyring, self.namespace) == (other.keyring, other.namespace)

    def __hash__(self) -> int:
        return hash((self.keyring, self.namespace))


def signer_for(keyring: Keyring | None, namespace: str) -> Signer | None:
    """The signer of a namespace; None without keys."""
    return None if keyring is None else Signer(keyring, namespace)
