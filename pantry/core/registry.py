"""Lazy registries: a kind of thing (engine, repository, ...) is one file, and the file's name is its name.

Listing imports nothing. Entry points of other distributions extend a registry; a name that exists twice is an error,
and an entry that does not import fails alone, when it is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from pantry.core.errors import ConflictError, NotFoundError, PantryError, did_you_mean


@dataclass
class Registry:
    """Names to modules: the public modules of `package`, and the entry points of `group`.

    A module offers its object under `attribute`. `noun` is how messages call an entry.
    """

    package: str
    group: str
    attribute: str
    noun: str
    _loaded: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _entries(self) -> dict[str, str | EntryPoint]:
        entries: dict[str, str | EntryPoint] = {}
        spec = find_spec(self.package)
        for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else []):
            if not module.name.startswith("_"):
                entries[module.name] = f"{self.package}.{module.name}"
        for entry in entry_points(group=self.group):
            if entry.name in entries:
                raise ConflictError(
                    f"Two packages offer the {self.noun} {entry.name!r}.",
                    hint=f"Uninstall the one that declares {entry.value!r}.",
                )
            entries[entry.name] = entry
        return entries

    def names(self) -> list[str]:
        """All known names, sorted; imports nothing."""
        return sorted(self._entries)

    def get(self, name: str) -> Any:
        """The object called `name`. Raises NotFoundError with the nearest name, or PantryError if it is broken."""
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._entries:
            known = ", ".join(self.names())
            raise NotFoundError(
                f"There is no {self.noun} {name!r}.", hint=did_you_mean(name, self.names(), f"Known: {known}.")
            )
        entry = self._entries[name]
        try:
            loaded = (
                entry.load()
                if isinstance(entry, EntryPoint)
                else getattr(importlib.import_module(entry), self.attribute)
            )
        except PantryError:
            raise
        except Exception as error:
            raise PantryError(f"The {self.noun} {name!r} does not load: {error}") from error
        self._loaded[name] = loaded
        return loaded
