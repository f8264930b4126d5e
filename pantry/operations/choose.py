"""Choosing a model: gathers what is loaded, installed and known, and lets the rules in `pantry.selection` decide."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pantry.catalogue.lookup import Catalogue
from pantry.client.connection import ServiceConnection
from pantry.core.errors import ServiceUnavailableError
from pantry.core.paths import Paths, find_paths
from pantry.core.refs import Digest
from pantry.evaluation.evidence import Evidence, evidence_of
from pantry.operations.service import find_service
from pantry.selection import (
    Choice,
    Fallback,
    Need,
    Request,
    parse_needs,
    parse_preferences,
)
from pantry.selection.selector import open_selector
from pantry.store.models import Store


def choose(
    needs: str | Sequence[Need] = (),
    *,
    prefer: str | Sequence[str] = (),
    mode: Fallback = "requirements_download",
    model: str | None = None,
    paths: Paths | None = None,
    loaded: Collection[str] = (),
    evidence: Mapping[Digest, Evidence] | None = None,
    bandwidth: float | None = None,
) -> Choice:
    """Choose a model of this home: `choose("CODING,context>=8192,licence:commercial", prefer="speed")`.

    What was measured here and the memory's speed are those of this home unless they are given.

    Raises ModelNotFoundError that says what excluded how many and what came nearest, or that nobody knows `model`;
    UsageError for words that are not a tag, capability, use or preference.
    """
    home = paths or find_paths()
    catalogue = Catalogue.open(home)
    selector = open_selector(home, catalogue, bandwidth)
    parsed = parse_needs(needs, selector.vocabulary) if isinstance(needs, str) else tuple(needs)
    request = Request(parsed, parse_preferences(prefer, selector.vocabulary), mode, model)
    with Store.open(home) as store:
        found, models = evidence_of(store.database) if evidence is None else evidence, store.list()
        if model is not None and not selector.is_known(model, models):
            raise selector.unknown(model, [str(each.name) for each in models])
        return selector.choose(request, models, loaded, found)


def loaded_names(paths: Paths) -> frozenset[str]:
    """The names of the models that the running service has loaded; none when no service runs."""
    if find_service(paths) is None:
        return frozenset()
    try:
        rows = ServiceConnection(paths).get("/admin/loaded")["loaded"]
    except ServiceUnavailableError:
        return frozenset()
    return frozenset(str(row["name"]) for row in rows)
