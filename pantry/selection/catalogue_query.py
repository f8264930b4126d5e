"""What a request asks for, as a query of the catalogue, and which clause of it stands for which requirement."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.query import Order, Query
from pantry.catalogue.rights import parse_use
from pantry.policy.rules import Policy
from pantry.selection import BEARABLE, READABLE, Need, Request
from pantry.selection.fit import weights_for_speed

NON_TEXT = {"EMBEDDING": "makes embeddings, no text", "IMAGE_GENERATION": "makes images, no text"}
"""Tags of models that write no text, and what they do."""

_ALIGNMENTS = {
    "refuse": frozenset({"aligned"}),
    "warn": frozenset({"aligned", "unknown", "unaligned", "uncensored"}),
}
"""What may pass, by the policy's rule on unaligned models."""


@dataclass(frozen=True)
class CatalogueQueryBuilder:
    """Writes queries for one catalogue, policy and speed of memory (bytes per second; 0: not known)."""

    catalogue: Catalogue
    policy: Policy
    bandwidth: float
    room: int = 0
    """Bytes of memory that models may take here; 0: not known."""

    def query(self, request: Request, *, obey_policy: bool) -> Query:
        """The request as a query of the catalogue; only what can be downloaded, or runs at a provider.

        With `obey_policy` also only what the policy allows and this machine can hold.
        """
        query = Query(obtainable=True)
        for need in request.needs:
            query = self._with(query, need)
        return self.allowed(self.fitting(without_non_text(query))) if obey_policy else query

    def fitting(self, query: Query) -> Query:
        """The query for models that this machine can hold."""
        if not self.room:
            return query
        return replace(query, max_memory=min(self.room, query.max_memory or self.room))

    def orders(self, request: Request) -> list[Order]:
        """The order among models of the catalogue: a usable speed, then the preferences."""
        stated = [Order(each) for each in request.preferences if not each.startswith("family:")]
        if not self.bandwidth:
            return stated
        paces = [BEARABLE] if request.preferences else [BEARABLE, READABLE]
        return [*(Order("active", weights_for_speed(pace, self.bandwidth)) for pace in paces), *stated]

    def _with(self, query: Query, need: Need) -> Query:
        least, most = need.at_least or 0, need.at_most
        if need.kind == "tag":
            return replace(query, tags=(*query.tags, need.name))
        if need.kind == "capability":
            return replace(query, capabilities=(*query.capabilities, (need.name, least)))
        if need.kind == "licence":
            return replace(query, chains=_both(query.chains, self._chains_for(need.name)))
        if need.kind == "family":
            return replace(query, families=(*query.families, need.name))
        if need.kind == "reads":
            return replace(query, modalities=(*query.modalities, need.name))
        if need.kind == "local":
            return replace(query, local=True)
        if need.kind == "speed":
            return replace(
                query, max_active=weights_for_speed(least, self.bandwidth) if self.bandwidth and least else 0
            )
        if need.kind == "context":
            return replace(query, min_context=max(int(least), query.min_context or 0))
        if need.kind == "params":
            return (
                replace(query, max_parameters=int(most))
                if most is not None
                else replace(query, min_parameters=int(least))
            )
        limit = int(most or 0)
        return replace(query, max_memory=limit) if need.kind == "ram" else replace(query, max_download=limit)

    def _chains_for(self, use: str) -> frozenset[int]:
        return self.catalogue.chains_allowing(
            parse_use(use), self.policy.circumstances, frozenset({"allowed", "conditional"})
        )

    def allowed(self, query: Query) -> Query:
        """The query for what the policy lets be chosen and downloaded: as `pantry.policy.decision.decide` has it."""
        policy = self.policy
        if not policy.remote:
            query = replace(query, local=True)
        if policy.downloads == "refuse":
            query = replace(query, remote=True)
        if (limit := policy.download_limit) is not None:
            query = replace(query, max_download=min(limit, query.max_download or limit))
        if policy.mode != "enforce":
            return query
        for use in policy.required_use:
            query = replace(query, chains=_both(query.chains, self._chains_for(use)))
        if policy.refused_licences or policy.accepted_licences:
            query = replace(query, chains=_both(query.chains, self._chains_under_licences()))
        if policy.accepted_families:
            query = replace(query, only_families=frozenset(policy.accepted_families))
        if policy.unaligned != "allow":
            query = replace(query, alignments=_ALIGNMENTS[policy.unaligned])
        return replace(query, without_families=frozenset(policy.refused_families))

    def _chains_under_licences(self) -> frozenset[int]:
        """The chains of known licences of which none is refused and all are accepted."""
        refused, accepted = set(self.policy.refused_licences), set(self.policy.accepted_licences)
        return frozenset(
            n
            for n, ids in self.catalogue.chain_licences.items()
            if n not in self.catalogue.chains_with_unknown
            and not ids & refused
            and (not accepted or (ids and ids <= accepted))
        )


def without_non_text(query: Query) -> Query:
    """The query without models that write no text, unless it asks for them by their tag."""
    return replace(query, without_tags=tuple(tag for tag in NON_TEXT if tag not in query.tags))


def is_clause_of(label: str, need: Need) -> bool:
    """Whether a clause of the catalogue's query stands for `need`."""
    if need.kind in ("tag", "capability", "reads", "local"):
        return label == need.label
    if need.kind == "family":
        return label.startswith("family:")
    if need.kind == "licence":
        return label == "licence"
    sign = ">=" if need.at_least is not None and need.kind != "speed" else "<="
    return label == f"{need.kind}{sign}"


def _both(one: frozenset[int] | None, other: frozenset[int]) -> frozenset[int]:
    return other if one is None else one & other
