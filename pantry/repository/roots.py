"""Roots of trust: the first file of a repository that a person hands on."""

from __future__ import annotations

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root

from pantry.core.errors import BadFileError


def check_root(content: bytes, where: str) -> int:
    """The version of a root file that is signed by its own keys. Raises BadFileError otherwise."""
    try:
        root = Metadata[Root].from_bytes(content)
        if not isinstance(root.signed, Root):
            raise BadFileError(f"{where} is TUF metadata of the role {root.signed.type!r}; expected is 'root'.")
        root.verify_delegate("root", root)
    except (exceptions.RepositoryError, ValueError, RecursionError) as error:
        raise BadFileError(
            f"{where} is not a TUF root that is signed by its own keys: {error}.",
            hint="Get root.json from whoever runs the repository, by a way you trust.",
        ) from None
    return int(root.signed.version)
