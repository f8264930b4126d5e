"""Choosing a model: gathers what is loaded, installed and known, and lets the rules in `pantry.selection` decide."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.memory import download_size, memory_size, running_size
from pantry.catalogue.rights import Answer, parse_use
from pantry.catalogue.schema import ModelEntry, Use
from pantry.client.connection import ServiceConnection
from pantry.core.errors import ServiceUnavailableError
from pantry.core.paths import Paths, find_paths
from pantry.core.refs import Digest
from pantry.operations._wanted import Wanted, is_clause_of, orders
from pantry.operations.fit import EFFICIENCY, entry_speed
from pantry.operations.policy import REMOTE, header_answers, installed_subject, load_policy, subject_of
from pantry.operations.service import find_service
from pantry.policy import Policy, Subject, decide
from pantry.selection import (
    KNOWN_CAPABILITIES,
    RUNNERS_UP,
    Candidate,
    Choice,
    Fallback,
    Measurement,
    Need,
    Request,
    Surroundings,
    Vocabulary,
    check,
    meets,
    parse_needs,
    parse_preferences,
    settle,
)
from pantry.selection import choose as choose_among
from pantry.store.models import InstalledModel, Store

_MARGIN = 4
"""Catalogue models asked for beyond the runners-up, for those that are installed already or that the policy refuses."""


@dataclass(frozen=True)
class Evidence:
    """What was measured here of one model: capability scores, and tokens per second."""

    scores: Mapping[str, Measurement]
    speed: float | None = None


class Selector:
    """Chooses among the models of one home. Holds the catalogue and the policy; make a new one when either changes."""

    def __init__(self, catalogue: Catalogue, policy: Policy, bandwidth: float = 0.0) -> None:
        """`bandwidth` is the memory's speed in bytes per second; 0 leaves speeds unknown until they are measured."""
        self.catalogue = catalogue
        self.policy = policy
        self.bandwidth = bandwidth
        self._wanted = Wanted(catalogue, policy, bandwidth)
        self._entries: dict[str, ModelEntry | None] = {}
        self._made: dict[tuple[str, str, tuple[Use, ...]], Candidate] = {}
        self._measured: dict[tuple[str, str, tuple[Use, ...]], tuple[Evidence, Candidate]] = {}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words a request may use."""
        floors = {
            tag: (rule.capability, rule.floor) for tag, rule in self.catalogue.tag_rules.items() if rule.capability
        }
        capabilities = KNOWN_CAPABILITIES | self.catalogue.capabilities
        return Vocabulary(frozenset(self.catalogue.tag_bits), capabilities, floors)

    def choose(
        self,
        request: Request,
        installed: Iterable[InstalledModel] = (),
        loaded: Collection[str] = (),
        evidence: Mapping[Digest, Evidence] | None = None,
    ) -> Choice:
        """Choose for `request` among the installed models (`loaded` names those running) and, if the mode allows,
        the catalogue.

        Raises ModelNotFoundError that says what excluded how many, and UsageError for a mode that needs a name.
        """
        found = evidence or {}
        uses = _uses(request)
        here = [self._candidate(model, uses, str(model.name) in loaded, found.get(model.digest)) for model in installed]
        if request.mode != "requirements_download":
            return choose_among(request, here, self.vocabulary)
        checked = check(request, here, self.vocabulary)
        eligible = sum(not each.faults for each in checked)
        if eligible > RUNNERS_UP and request.model is None:  # whatever is not here comes after all of these
            return settle(request, checked, self.vocabulary)
        there = self._available(request, uses, {candidate.name for candidate in here})
        around = Surroundings(open_ended=len(there) >= RUNNERS_UP + _MARGIN)
        checked += check(request, there, self.vocabulary)
        if all(each.faults for each in checked):
            around, nearest = self._surroundings(request, uses)
            checked = checked[: len(here)] + check(request, nearest, self.vocabulary)
        return settle(request, checked, self.vocabulary, around)

    def _candidate(
        self, model: InstalledModel, uses: tuple[Use, ...], is_loaded: bool, evidence: Evidence | None
    ) -> Candidate:
        key = (str(model.digest), str(model.name), uses)
        base = self._made.get(key)
        if base is None:
            base = self._made[key] = self._make(model, uses)
        if evidence is not None:
            kept = self._measured.get(key)
            if kept is None or kept[0] is not evidence:
                kept = self._measured[key] = (evidence, self._with_evidence(base, model, evidence))
            base = kept[1]
        return replace(base, state="loaded") if is_loaded else base

    def _with_evidence(self, base: Candidate, model: InstalledModel, evidence: Evidence) -> Candidate:
        decision = base.decision
        if self.policy.minimum_evidence:
            decision = decide(self.policy, self._subject(model, evidence), "select")
        return replace(
            base,
            measured=evidence.scores,
            speed=evidence.speed if evidence.speed is not None else base.speed,
            speed_measured=evidence.speed is not None,
            decision=decision,
        )

    def entry_of(self, model: InstalledModel) -> ModelEntry | None:
        """The catalogue's entry for an installed model, found by its name; None when it has none."""
        name = model.name.name
        if name not in self._entries:
            self._entries[name] = self.catalogue.find_model(name)
        return self._entries[name]

    def _make(self, model: InstalledModel, uses: tuple[Use, ...]) -> Candidate:
        facts, entry = model.facts, self.entry_of(model)
        tags = set(entry.tags) if entry else set()
        if facts.get("chat"):
            tags.add("CONVERSATIONAL")
        context = facts.get("context") or (entry.context if entry else None)
        active = (
            entry.active_parameters / entry.parameters if entry and entry.active_parameters and entry.parameters else 1
        )
        return Candidate(
            name=str(model.name),
            state="installed",
            family=entry.family if entry else None,
            tags=frozenset(tags),
            context=context,
            parameters=facts.get("parameters") or (entry.parameters if entry else None),
            memory=running_size(model.size, context, entry.shape if entry else None),
            remote=model.format == REMOTE,
            reads=frozenset(entry.inputs) if entry else frozenset({"text"}),
            declared=entry.capabilities if entry else {},
            speed=EFFICIENCY * self.bandwidth / (model.size * active) if self.bandwidth and model.size else None,
            answers=self._answers(model, entry, uses),
            decision=decide(self.policy, self._subject(model, None), "select"),
            released=entry.released or "" if entry else "",
            shortlist=entry.shortlist if entry else False,
        )

    def _answers(self, model: InstalledModel, entry: ModelEntry | None, uses: Iterable[Use]) -> dict[Use, Answer]:
        if entry is None:
            return header_answers(self.catalogue, model, uses, self.policy.circumstances)
        return {use: self.catalogue.judge(entry, use, self.policy.circumstances) for use in uses}

    def _subject(self, model: InstalledModel, evidence: Evidence | None) -> Subject:
        scores = {name: each.score for name, each in evidence.scores.items()} if evidence else {}
        return installed_subject(self.catalogue, model, self.entry_of(model), self.policy, scores)

    def _available(self, request: Request, uses: tuple[Use, ...], here: Collection[str]) -> list[Candidate]:
        query = self._wanted.query(request, obey_policy=True)
        models = self.catalogue.shortlist(query, orders(request), RUNNERS_UP + _MARGIN)
        return [self._from_entry(model, uses) for model in models if model.id not in here]

    def _surroundings(self, request: Request, uses: tuple[Use, ...]) -> tuple[Surroundings, list[Candidate]]:
        """For the explanation of a failure: what excluded how many of the catalogue, and who came nearest."""
        query = self._wanted.query(request, obey_policy=False)
        total, excluded = self.catalogue.exclusions(query)
        counts: dict[str, int] = {}
        for need in request.needs:
            counts[need.label] = sum(each.count for each in excluded if is_clause_of(each.label, need))
        nearest = [self._from_entry(model, uses) for model in self.catalogue.nearest(query, orders(request), 1)]
        for need in request.needs:
            for candidate in nearest:  # counted among the candidates already
                counts[need.label] -= not meets(candidate, need, self.vocabulary)
        return Surroundings(total - len(nearest), counts), nearest

    def _from_entry(self, model: ModelEntry, uses: Iterable[Use]) -> Candidate:
        circumstances = self.policy.circumstances
        return Candidate(
            name=model.id,
            state="available",
            family=model.family,
            tags=frozenset(model.tags),
            context=model.context,
            parameters=model.parameters,
            memory=memory_size(model),
            download=download_size(model),
            remote=model.remote,
            reads=frozenset(model.inputs),
            declared=model.capabilities,
            speed=entry_speed(model, self.bandwidth) if self.bandwidth else None,
            answers={use: self.catalogue.judge(model, use, circumstances) for use in uses},
            decision=decide(self.policy, subject_of(self.catalogue, model, self.policy), "select"),
            released=model.released or "",
            shortlist=model.shortlist,
        )


def choose(
    needs: str | Sequence[Need] = (),
    *,
    prefer: str | Sequence[str] = (),
    mode: Fallback = "requirements_download",
    model: str | None = None,
    paths: Paths | None = None,
    loaded: Collection[str] = (),
    evidence: Mapping[Digest, Evidence] | None = None,
    bandwidth: float = 0.0,
) -> Choice:
    """Choose a model of this home: `choose("CODING,context>=8192,licence:commercial", prefer="speed")`.

    Raises ModelNotFoundError that says what excluded how many and what came nearest, UsageError for words that are
    no tag, capability, use or preference.
    """
    home = paths or find_paths()
    catalogue = Catalogue.open(home)
    selector = Selector(catalogue, load_policy(home, catalogue), bandwidth)
    parsed = parse_needs(needs, selector.vocabulary) if isinstance(needs, str) else tuple(needs)
    request = Request(parsed, parse_preferences(prefer, selector.vocabulary), mode, model)
    with Store.open(home) as store:
        return selector.choose(request, store.list(), loaded, evidence)


def loaded_names(paths: Paths) -> frozenset[str]:
    """The names of the models that the running service has loaded; none when no service runs."""
    if find_service(paths) is None:
        return frozenset()
    try:
        rows = ServiceConnection(paths).get("/admin/loaded")["loaded"]
    except ServiceUnavailableError:
        return frozenset()
    return frozenset(str(row["name"]) for row in rows)


def _uses(request: Request) -> tuple[Use, ...]:
    return tuple(dict.fromkeys(parse_use(need.name) for need in request.needs if need.kind == "licence"))
