"""Which model of the catalogue an installed one is, and which licences bind it.

A name proves nothing: any file can be called `qwen3-0.6b`. An entry counts when it lists the file's digest, or when it
goes by the model's name and the file's own header agrees with it in architecture and size. What the file's header and
its signed manifest say of licences always counts beside the entry; the strictest decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.merge import BUILTIN, worst_alignment
from pantry.catalogue.rights import Chain, Link
from pantry.catalogue.schema import Family, ModelEntry
from pantry.store.models import InstalledModel

TOLERANCE = 0.3
"""How far the weights in a file may be from the entry's: published sizes are round and leave out embeddings."""
_WRITTEN_AS = {"mistral": "llama", "gptneox": "stablelm"}
"""Architectures that GGUF files name otherwise than their makers (llama.cpp, src/llama-arch.cpp)."""
_SILENT = frozenset({"", "other", "unknown", "custom", "none"})
"""What headers say where they do not know the licence."""


@dataclass(frozen=True)
class ModelIdentity:
    """What an installed model is: its entries in the catalogue (the first is shown), and what proves it."""

    entries: tuple[ModelEntry, ...] = ()
    by: Literal["digest", "header", "provider", "nothing"] = "nothing"

    @property
    def entry(self) -> ModelEntry | None:
        return self.entries[0] if self.entries else None

    @property
    def words(self) -> str | None:
        """In a few words, as the policy explains it; None when the catalogue does not know it."""
        if self.entry is None:
            return None
        proof = {"digest": "its digest", "header": "its name, architecture and size", "provider": "its name"}[self.by]
        return f"by {proof} it is {self.entry.id}"

    @property
    def alignment(self) -> str:
        """The worst that its entries say. That it is aligned counts only where the file itself is known.

        One from which the alignment was taken out has the architecture and the size of the one it was made from.
        """
        worst = worst_alignment(*(entry.alignment for entry in self.entries)) if self.entries else "unknown"
        return "unknown" if worst == "aligned" and self.by == "header" else worst


def identity_of(catalogue: Catalogue, model: InstalledModel) -> ModelIdentity:
    """What `model` is."""
    named = catalogue.find_model(model.name.name)
    if model.remote:
        return ModelIdentity((named,), "provider") if named is not None and named.remote else ModelIdentity()
    listed = catalogue.models_of_file(model.weights)
    if listed:
        shipped = [each for each in listed if (catalogue.origin("model", each.id) or "").startswith(BUILTIN)]
        return ModelIdentity((*shipped, *(each for each in listed if each not in shipped)), "digest")
    if named is not None and _agrees(catalogue, model.facts, named):
        return ModelIdentity((named,), "header")
    return ModelIdentity()


def _agrees(catalogue: Catalogue, facts: dict[str, Any], entry: ModelEntry) -> bool:
    """Whether a header is that of the entry's model, as far as headers tell."""
    family = catalogue.find("family", entry.family, Family)
    parameters, architecture = facts.get("parameters"), str(facts.get("architecture") or "").lower()
    if family is None or not family.architecture or not entry.parameters or not isinstance(parameters, int):
        return False
    kind = family.architecture.lower()
    same = architecture.startswith(kind) or architecture == _WRITTEN_AS.get(kind)  # gemma, gemma3, gemma3n
    return same and abs(parameters - entry.parameters) <= TOLERANCE * entry.parameters


def chain_of_installed(catalogue: Catalogue, model: InstalledModel, found: ModelIdentity) -> Chain:
    """The licences that bind an installed model: what its file and manifest state, its entries, and its bases.

    A name of a licence that the catalogue does not know counts, as unknown, unless the digest proves what the file is.
    """
    links = [Link("weights", str(model.name), text) for text in _stated(catalogue, model.facts, found)]
    for entry in found.entries:
        links += catalogue.chain(entry)
    if not links:
        links.append(Link("weights", str(model.name), None))
    bases = model.facts.get("base") or ()
    for base in bases if isinstance(bases, list) and found.by != "digest" else ():
        known = catalogue.find_model(str(base))
        above = catalogue.chain(known) if known is not None else (Link("weights", str(base)[:200], None),)
        links += [Link("base", each.name, each.licence) if each.role == "weights" else each for each in above]
    return tuple(dict.fromkeys(links))


def _stated(catalogue: Catalogue, facts: dict[str, Any], found: ModelIdentity) -> list[str]:
    stated = []
    for key in ("licence", "header_licence"):
        text = str(facts.get(key) or "").strip()
        known = catalogue.knows_licence(text)
        if known or (text.lower() not in _SILENT and found.by != "digest"):
            stated.append(text)
    return stated


def families_of(catalogue: Catalogue, told: object, entries: Iterable[ModelEntry]) -> frozenset[str]:
    """The families that a signed manifest and the catalogue name, by their ids; empty when nothing does."""
    named = set()
    if isinstance(told, str) and told.strip():
        found = catalogue.find("family", told, Family)
        named.add(found.id if found else told.strip().lower())
    return frozenset({*named, *(entry.family for entry in entries)})
