"""Opening the catalogue for a command: what had to be left out of it is said aloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pantry.catalogue.lookup import Catalogue
    from pantry.core.paths import Paths

SHOWN = 3
"""Problems that every command tells; the others only `pantry catalogue check`."""


def open_catalogue(paths: Paths) -> Catalogue:
    """The catalogue of a home, with a remark on standard error about entries that are wrong."""
    from pantry.catalogue.lookup import Catalogue
    from pantry.cli._output import note

    catalogue = Catalogue.open(paths)
    for problem in catalogue.problems[:SHOWN]:
        note(f"Left out of the catalogue: {problem}")
    if len(catalogue.problems) > SHOWN:
        note(f"{len(catalogue.problems) - SHOWN} more are left out; see them with: pantry catalogue check")
    return catalogue
