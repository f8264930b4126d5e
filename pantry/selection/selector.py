"""The choice of a model over the installed ones and the catalogue, under the policy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from pantry.catalogue.index import is_obtainable
from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.memory import download_size, memory_size, running_size
from pantry.catalogue.query import Query
from pantry.catalogue.rights import parse_use
from pantry.catalogue.schema import ModelEntry, Use
from pantry.core.errors import ModelNotFoundError
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.core.settings import load_settings
from pantry.core.units import format_bytes
from pantry.engines.choose import has_engine
from pantry.engines.machine import memory_speed, model_room
from pantry.evaluation.capabilities import KNOWN_CAPABILITIES
from pantry.evaluation.evidence import Evidence
from pantry.policy.decision import Subject, decide
from pantry.policy.file import load_policy
from pantry.policy.identity import ModelIdentity, identity_of
from pantry.policy.rules import Policy
from pantry.policy.subjects import installed_answers, installed_subject, subject_of
from pantry.selection import RUNNERS_UP, Candidate, CatalogueCounts, Choice, Request, Vocabulary, check, meets, settle
from pantry.selection import choose as choose_among
from pantry.selection.advice import advise
from pantry.selection.catalogue_query import NON_TEXT, CatalogueQueryBuilder, is_clause_of
from pantry.selection.fit import EFFICIENCY, entry_speed
from pantry.starter import STARTER
from pantry.store.models import InstalledModel

_MARGIN = 4
"""Catalogue models asked for beyond the runners-up, for those that are installed already or that the policy refuses."""


class Selector:
    """Chooses among the models of one home. Holds the catalogue and the policy; make a new one when either changes."""

    def __init__(self, catalogue: Catalogue, policy: Policy, bandwidth: float = 0.0, room: int = 0) -> None:
        """`bandwidth` is the memory's speed in bytes per second; 0 leaves speeds unknown until they are measured.

        `room` is the bytes of memory that models may take; 0 takes every model for one that fits.
        """
        self.catalogue = catalogue
        self.policy = policy
        self.bandwidth = bandwidth
        self.room = room
        self._wanted = CatalogueQueryBuilder(catalogue, policy, bandwidth, room)
        self._identities: dict[tuple[Digest, str], ModelIdentity] = {}
        self._made: dict[tuple[str, ModelName, tuple[Use, ...]], Candidate] = {}
        self._measured: dict[tuple[str, ModelName, tuple[Use, ...]], tuple[Evidence, Candidate]] = {}

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

        Raises ModelNotFoundError that says what excluded how many and what to do, also for a model asked for by a
        name that nobody knows; UsageError for a mode that needs a name.
        """
        found = evidence or {}
        models = list(installed)

        def decide(wanted: Request) -> Choice:
            return self._choose(wanted, models, loaded, found)

        try:
            return decide(request)
        except ModelNotFoundError as error:
            if request.mode in ("none", "load") or not self.is_known(request.model, models):
                raise
            raise advise(request, error, decide, self.vocabulary, self._download_size) from None

    def is_known(self, name: str | None, models: Iterable[InstalledModel]) -> bool:
        """Whether a model of that name is installed or in the catalogue; also when no name is given."""
        return name is None or any(str(m.name) == name for m in models) or self.catalogue.find_model(name) is not None

    def _download_size(self, name: str) -> int | None:
        entry = self.catalogue.find_model(name)
        return download_size(entry) if entry else None

    def _choose(
        self,
        request: Request,
        installed: Sequence[InstalledModel],
        loaded: Collection[str],
        found: Mapping[Digest, Evidence],
    ) -> Choice:
        uses = _uses(request)
        mute = {tag: words for tag, words in NON_TEXT.items() if all(need.name != tag for need in request.needs)}
        here = [
            _without_non_text(self._candidate(model, uses, str(model.name) in loaded, found.get(model.digest)), mute)
            for model in installed
        ]
        request, named = self._named(request, here, uses)
        if request.mode in ("none", "load"):
            return choose_among(request, [*here, *named], self.vocabulary)
        if request.mode != "requirements_download":
            return choose_among(request, here, self.vocabulary)
        checked = check(request, here, self.vocabulary)
        eligible = sum(not each.faults for each in checked)
        if eligible > RUNNERS_UP and request.model is None:  # whatever is not here comes after all of these
            return settle(request, checked, self.vocabulary)
        there = self._available(request, uses, {candidate.name for candidate in here})
        there += [each for each in named if each.name not in {candidate.name for candidate in there}]
        around = CatalogueCounts(open_ended=len(there) >= RUNNERS_UP + _MARGIN)
        checked += check(request, there, self.vocabulary)
        if all(each.faults for each in checked):
            around, nearest = self._surroundings(request, uses)
            checked = checked[: len(here)] + check(request, nearest, self.vocabulary)
        return settle(request, checked, self.vocabulary, around)

    def _named(
        self, request: Request, here: Sequence[Candidate], uses: tuple[Use, ...]
    ) -> tuple[Request, list[Candidate]]:
        """The request with the full name of the model it names, and that model if only the catalogue has it.

        A name that nobody knows may give way to the requirements; without them it raises ModelNotFoundError with the
        nearest name.
        """
        if request.model is None or any(each.name == request.model for each in here):
            return request, []
        entry = self.catalogue.find_model(request.model)
        if entry is None and request.needs and request.mode not in ("none", "load"):
            return request, []
        if entry is None:
            raise self.unknown(request.model, [each.name for each in here])
        return replace(request, model=entry.id), [self._from_entry(entry, uses)] if is_obtainable(entry) else []

    def unknown(self, name: str, installed: Iterable[str]) -> ModelNotFoundError:
        """The error for a model that is neither installed nor in the catalogue, with the nearest name."""
        hint = self.catalogue.model_hint(name, "See what there is with: pantry list, pantry search", installed)
        if name == str(STARTER):
            hint = "It comes with Pantry; this brings it: pantry run starter"
        return ModelNotFoundError(f"There is no model {name[:80]!r}.", hint=hint)

    def _candidate(
        self, model: InstalledModel, uses: tuple[Use, ...], is_loaded: bool, evidence: Evidence | None
    ) -> Candidate:
        key = (model.digest.hex, model.name, uses)
        base = self._made.get(key)
        if base is None:
            base = self._made[key] = self._make(model, uses)
        if evidence is not None:
            kept = self._measured.get(key)
            if kept is None or kept[0] is not evidence:
                kept = self._measured[key] = (evidence, self._with_evidence(base, model, evidence))
            base = kept[1]
        return replace(base, state="loaded", unfit=None) if is_loaded else base

    def _with_evidence(self, base: Candidate, model: InstalledModel, evidence: Evidence) -> Candidate:
        decision = base.decision
        if self.policy.minimum_evidence:
            decision = decide(self.policy, self._subject(model, evidence), "select")
        measured = replace(base, measured=evidence.scores, decision=decision)
        if evidence.speed is None:
            return measured
        source = f"{evidence.speed.date} with {evidence.speed.engine}"
        return replace(measured, speed=evidence.speed.rate, speed_measured=True, speed_source=source)

    def identity_of(self, model: InstalledModel) -> ModelIdentity:
        """What the catalogue knows an installed model as, by its file; a name alone proves nothing."""
        key = (model.digest, model.name.name)
        if key not in self._identities:
            self._identities[key] = identity_of(self.catalogue, model)
        return self._identities[key]

    def _make(self, model: InstalledModel, uses: tuple[Use, ...]) -> Candidate:
        facts, known = model.facts, self.identity_of(model)
        entry = known.entry
        tags = set(entry.tags) if entry else set()
        if facts.get("chat"):
            tags.add("CONVERSATIONAL")
        context = facts.get("context") or (entry.context if entry else None)
        active = (
            entry.active_parameters / entry.parameters if entry and entry.active_parameters and entry.parameters else 1
        )
        memory = running_size(model.size, context, entry.shape if entry else None)
        return Candidate(
            name=str(model.name),
            state="installed",
            family=entry.family if entry else None,
            tags=frozenset(tags),
            context=context,
            parameters=facts.get("parameters") or (entry.parameters if entry else None),
            memory=memory,
            unfit=None if model.remote else _no_engine(model) or self._unfit(memory),
            remote=model.remote,
            reads=frozenset(entry.inputs) if entry else frozenset({"text"}),
            declared=entry.capabilities if entry else {},
            speed=EFFICIENCY * self.bandwidth / (model.size * active) if self.bandwidth and model.size else None,
            answers=installed_answers(self.catalogue, model, known, uses, self.policy.circumstances),
            decision=decide(self.policy, self._subject(model, None), "select"),
            released=entry.released or "" if entry else "",
            shortlist=entry.shortlist if entry else False,
        )

    def _unfit(self, memory: int | None) -> str | None:
        """Why a model of so many bytes cannot run here; None when it can, or when that is not known."""
        if not self.room or memory is None or memory <= self.room:
            return None
        return f"needs {format_bytes(memory)} of memory; models may take {format_bytes(self.room)} here"

    def _subject(self, model: InstalledModel, evidence: Evidence | None) -> Subject:
        scores = {name: each.score for name, each in evidence.scores.items()} if evidence else {}
        return installed_subject(self.catalogue, model, self.identity_of(model), self.policy, scores)

    def _available(self, request: Request, uses: tuple[Use, ...], here: Collection[str]) -> list[Candidate]:
        query = self._wanted.query(request, obey_policy=True)
        models = self.catalogue.shortlist(query, self._wanted.orders(request), RUNNERS_UP + _MARGIN)
        return [self._from_entry(model, uses) for model in models if model.id not in here]

    def _surroundings(self, request: Request, uses: tuple[Use, ...]) -> tuple[CatalogueCounts, list[Candidate]]:
        """For the explanation of a failure: what excluded how many of the catalogue, and who came nearest."""
        query = self._wanted.query(request, obey_policy=False)
        total, excluded = self.catalogue.exclusions(query)
        counts: dict[str, int] = {}
        for need in request.needs:
            counts[need.label] = sum(each.count for each in excluded if is_clause_of(each.label, need))
        if self.room:
            (beyond,) = self.catalogue.exclusions(Query(obtainable=True, max_memory=self.room))[1]
            counts["memory"] = beyond.count
        open_to_all = Query(obtainable=True)
        counts["policy"] = total - self.catalogue.count_of(self._wanted.allowed(open_to_all))
        wanted, order = self._wanted.fitting(query), self._wanted.orders(request)
        nearest = [self._from_entry(model, uses) for model in self.catalogue.nearest(wanted, order, 1)]
        for candidate in nearest:  # counted among the candidates already
            counts["memory"] = counts.get("memory", 0) - (candidate.unfit is not None)
            counts["policy"] -= candidate.decision is not None and not candidate.decision.allowed
        for need in request.needs:
            for candidate in nearest:
                counts[need.label] -= not meets(candidate, need, self.vocabulary)
        return CatalogueCounts(total - len(nearest), counts), nearest

    def _from_entry(self, model: ModelEntry, uses: Iterable[Use]) -> Candidate:
        circumstances, memory = self.policy.circumstances, memory_size(model)
        return Candidate(
            name=model.id,
            state="available",
            family=model.family,
            tags=frozenset(model.tags),
            context=model.context,
            parameters=model.parameters,
            memory=memory,
            unfit=None if model.remote else self._unfit(memory),
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


def open_selector(
    paths: Paths, catalogue: Catalogue, bandwidth: float | None = None, room: int | None = None
) -> Selector:
    """The rules of choice of a home: its policy, the speed of this machine's memory, and what models may take of it."""
    speed = memory_speed(paths) if bandwidth is None else bandwidth
    return Selector(catalogue, load_policy(paths, catalogue), speed, room or model_room(load_settings(paths)))


def _without_non_text(candidate: Candidate, mute: Mapping[str, str]) -> Candidate:
    """The candidate, unfit when it writes no text."""
    words = [mute[tag] for tag in candidate.tags & mute.keys()] if candidate.unfit is None else []
    return replace(candidate, unfit=words[0]) if words else candidate


def _uses(request: Request) -> tuple[Use, ...]:
    return tuple(dict.fromkeys(parse_use(need.name) for need in request.needs if need.kind == "licence"))


def _no_engine(model: InstalledModel) -> str | None:
    return None if has_engine(model) else f"no engine here runs {model.kind.title} models"
