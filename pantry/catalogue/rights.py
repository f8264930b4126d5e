"""May I? The licence rules, without I/O.

A model's rights rest on a chain: the licence of its weights, those of the models it was made from, and those of the
data it learned from. The strictest link decides: refused before unknown before conditional before allowed. `OR` in a
licence expression lets the user take the mildest part; `AND` binds to all.

Data sets count with what they say: their refusals and duties reach the model. A data set without a stated licence is
a caution, and makes the answer unknown only when `strict_data` is asked for. These are facts and rules of thumb, not
legal advice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pantry.catalogue.expressions import AllOf, Expression, Term, parse_expression
from pantry.catalogue.regions import EU, EU_MEMBERS, parse_region
from pantry.catalogue.schema import Condition, Dataset, Licence, ModelEntry, Use, Verdict
from pantry.core.errors import BadFileError, UsageError, did_you_mean

NOT_LEGAL_ADVICE = "This is a reading of public facts, not legal advice."
USES: tuple[Use, ...] = get_args(Use)
MAX_CHAIN = 32  # models; the longest real chain of bases is 4
_STRICTNESS: dict[Verdict, int] = {"allowed": 0, "conditional": 1, "unknown": 2, "refused": 3}
_WORDS: dict[Verdict, str] = {
    "allowed": "allowed",
    "conditional": "allowed if",
    "unknown": "unknown",
    "refused": "not allowed",
}


@dataclass(frozen=True)
class Circumstances:
    """Who asks: monthly users, yearly revenue in USD, region (`EU` or a two-letter country code). None: not said."""

    users: int | None = None
    revenue: int | None = None
    region: str | None = None
    strict_data: bool = False

    def lies_in(self, region: str) -> bool | None:
        """Whether the asker is based in `region`; None when not said."""
        if self.region is None:
            return None
        mine = self.region.upper()
        return mine == region.upper() or (region.upper() == EU and mine in EU_MEMBERS)


@dataclass(frozen=True)
class Link:
    """One link of the chain: what it is and under which licence expression it stands."""

    role: Literal["weights", "base", "data", "terms"]
    name: str
    licence: str | None


Chain = tuple[Link, ...]


@dataclass(frozen=True)
class Finding:
    """What one licence says to one use."""

    verdict: Verdict
    text: str
    conditions: tuple[str, ...] = ()
    licence: str | None = None
    sources: tuple[str, ...] = ()
    url: str | None = None


@dataclass(frozen=True)
class LinkFinding:
    """A finding and the link it belongs to. One that is not `counted` is a caution and decides nothing."""

    link: Link
    finding: Finding
    counted: bool = True

    @property
    def words(self) -> str:
        """The verdict on this link, as people read it."""
        return _WORDS[self.finding.verdict].removesuffix(" if") + ("" if self.counted else ", a caution")


@dataclass(frozen=True)
class Answer:
    """The answer for one use: the verdict, the conditions still open, the whole chain, and cautions."""

    use: Use
    verdict: Verdict
    conditions: tuple[str, ...]
    chain: tuple[LinkFinding, ...]
    cautions: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """`allowed`, `allowed if`, `not allowed` or `unknown`."""
        return _WORDS[self.verdict]

    @property
    def reason(self) -> str:
        """The finding that decided, in one sentence."""
        deciding = next((each for each in self._deciding), None)
        if deciding is None:
            return "Nothing is known about its licence."
        return f"{_role_words(deciding.link)}: {deciding.finding.text}"

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the findings that share the verdict."""
        return tuple(dict.fromkeys(source for each in self._deciding for source in each.finding.sources))

    @property
    def _deciding(self) -> list[LinkFinding]:
        return [each for each in self.chain if each.counted and each.finding.verdict == self.verdict]

    def to_json(self) -> dict[str, Any]:
        """The answer for programs."""
        return {
            "use": self.use,
            "answer": self.words,
            "conditions": list(self.conditions),
            "reason": self.reason,
            "sources": list(self.sources),
            "cautions": list(self.cautions),
            "chain": [
                {
                    "role": each.link.role,
                    "name": each.link.name,
                    "licence": each.link.licence,
                    "verdict": each.finding.verdict,
                    "counted": each.counted,
                    "text": each.finding.text,
                    "conditions": list(each.finding.conditions),
                    "url": each.finding.url,
                }
                for each in self.chain
            ],
            "note": NOT_LEGAL_ADVICE,
        }


def parse_use(text: str) -> Use:
    """A use by its name. Raises UsageError with the nearest one."""
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    for use in USES:
        if use == name:
            return use
    raise UsageError(
        f"There is no use {text.strip()[:60]!r}.", hint=did_you_mean(name, USES, f"Known uses: {', '.join(USES)}.")
    )


def parse_uses(text: str) -> tuple[Use, ...]:
    """Uses separated by commas, in the order given, each once. Raises UsageError for a wrong one, or for none."""
    uses = tuple(dict.fromkeys(parse_use(part) for part in text.split(",") if part.strip()))
    if not uses:
        raise UsageError(f"{text[:40]!r} names no use.", hint=f"Known uses: {', '.join(USES)}.")
    return uses


def parse_circumstances(
    users: float | None, revenue: float | None, region: str | None, *, strict_data: bool = False
) -> Circumstances:
    """Who asks, from plain values. Raises UsageError for an unreal figure or a region that is not a code."""
    for name, figure in (("users", users), ("revenue", revenue)):
        if figure is not None and not 0 <= figure < 10**15:
            raise UsageError(f"{name} must be a count from 0 up, got {figure:g}.")
    return Circumstances(
        int(users) if users is not None else None,
        int(revenue) if revenue is not None else None,
        parse_region(region) if region is not None else None,
        strict_data,
    )


def chain_of(
    model: ModelEntry, find_model: Callable[[str], ModelEntry | None], find_data: Callable[[str], Dataset | None]
) -> Chain:
    """The chain of licences under `model`: its weights, its bases, and the data of all of them.

    Raises BadFileError when the bases form a circle or the chain is longer than any real one.
    """
    links: list[Link] = []
    data: dict[str, None] = {}
    seen: list[str] = []
    current: ModelEntry | None = model
    while current is not None:
        if current.id in seen or len(seen) >= MAX_CHAIN:
            path = " -> ".join([*seen, current.id])
            raise BadFileError(
                f"The bases of {model.id!r} run in a circle or too deep: {path[:300]}.",
                hint="Correct the field 'base' of one of them in your overlay.",
            )
        seen.append(current.id)
        links.append(Link("base" if len(seen) > 1 else "weights", current.id, current.licence))
        data |= dict.fromkeys(current.data)
        base = current.base
        current = find_model(base) if base else None
        if base and current is None:
            links.append(Link("base", base, None))
    for name in data:
        found = find_data(name)
        links.append(Link("data", name, found.licence if found else None))
        if found and found.upstream_terms:
            links.append(Link("terms", name, found.upstream_terms))
    return tuple(links)


def judge_chain(
    chain: Chain,
    use: Use,
    circumstances: Circumstances,
    licences: Mapping[str, Licence],
    names: Mapping[str, str],
    *,
    multimodal: bool = False,
) -> Answer:
    """What the strictest link of `chain` answers to `use`. A licence that does not parse is an unknown one."""
    findings: list[LinkFinding] = []
    cautions: list[str] = []
    for link in chain:
        finding = _judge_link(link, use, circumstances, licences, names, multimodal)
        if link.role == "terms":
            if finding.verdict != "allowed":
                cautions.append(
                    f"The data set {link.name} was made with outputs under {link.licence}; its terms may bind."
                )
            continue
        counted = link.role != "data" or finding.verdict != "unknown" or circumstances.strict_data
        if not counted:
            cautions.append(f"The licence of the training data {link.name} is not known.")
        findings.append(LinkFinding(link, finding, counted))
    deciding = [each.finding for each in findings if each.counted]
    if not deciding:
        return Answer(use, "unknown", (), tuple(findings), tuple(cautions))
    verdict = max((each.verdict for each in deciding), key=lambda one: _STRICTNESS[one])
    conditions = dict.fromkeys(text for each in deciding for text in each.conditions)
    return Answer(use, verdict, tuple(conditions) if verdict == "conditional" else (), tuple(findings), tuple(cautions))


def judge_expression(
    text: str,
    use: Use,
    circumstances: Circumstances,
    licences: Mapping[str, Licence],
    names: Mapping[str, str],
    *,
    multimodal: bool = False,
) -> Finding:
    """What a licence expression answers to `use`. Raises UsageError when it does not parse."""
    return _judge_tree(parse_expression(text, names), use, circumstances, licences, multimodal)


def judge_licence(licence: Licence, use: Use, circumstances: Circumstances, *, multimodal: bool = False) -> Finding:
    """What one licence answers to `use` in these circumstances."""

    def found(verdict: Verdict, text: str, conditions: tuple[str, ...] = ()) -> Finding:
        return Finding(verdict, text, conditions, licence.id, licence.source_of("grants"), licence.url)

    bare = licence.grants.of(use)
    bound = [c for c in licence.conditions if use in c.uses and (multimodal or not c.multimodal_only)]
    if bare == "refused":
        limits = [c.text for c in bound if c.kind == "output-training"]
        return found("refused", f"{licence.name} does not allow it" + (f"; {limits[0]}." if limits else "."))
    if bare == "unknown":
        return found("unknown", f"{licence.name} does not say, or its text was not read.")
    open_conditions: list[str] = []
    for condition in bound:
        state = _state(condition, circumstances)
        if state == "met":
            continue
        if state == "passed" and condition.beyond != "conditional":
            return found(condition.beyond, f"{licence.name}: {condition.text}.")
        open_conditions.append(_describe(condition, state))
    if open_conditions:
        return found("conditional", f"{licence.name} allows it under conditions.", tuple(open_conditions))
    return found("allowed", f"{licence.name} allows it.")


def _judge_link(
    link: Link,
    use: Use,
    circumstances: Circumstances,
    licences: Mapping[str, Licence],
    names: Mapping[str, str],
    multimodal: bool,
) -> Finding:
    if link.licence is None:
        return Finding("unknown", f"no licence of {link.name} is on record.")
    asked: Use = "train-on-outputs" if link.role == "terms" else use
    if link.role == "data" and use in ("sell-outputs", "hosted-service"):
        asked = "commercial"
    elif link.role == "data" and use == "train-on-outputs":
        asked = "modify"
    try:
        return judge_expression(link.licence, asked, circumstances, licences, names, multimodal=multimodal)
    except UsageError:
        return Finding("unknown", f"the catalogue has no facts on the licence {link.licence[:80]!r}.")


def _judge_tree(
    node: Expression, use: Use, circumstances: Circumstances, licences: Mapping[str, Licence], multimodal: bool
) -> Finding:
    if isinstance(node, Term):
        licence = licences.get(node.id) if node.known else None
        if licence is None:
            return Finding("unknown", f"the catalogue has no facts on the licence {node.id}.", licence=node.id)
        return judge_licence(licence, use, circumstances, multimodal=multimodal)
    parts = [_judge_tree(part, use, circumstances, licences, multimodal) for part in node.parts]
    if not isinstance(node, AllOf):
        return min(parts, key=lambda part: (_STRICTNESS[part.verdict], len(part.conditions)))
    strictest = max(parts, key=lambda part: _STRICTNESS[part.verdict])
    merged = tuple(dict.fromkeys(text for part in parts for text in part.conditions))
    return Finding(strictest.verdict, strictest.text, merged, strictest.licence, strictest.sources, strictest.url)


def _state(condition: Condition, circumstances: Circumstances) -> Literal["met", "open", "passed"]:
    """Whether the circumstances settle the condition: it is met, still open, or its limit is passed."""
    if condition.kind in ("users", "revenue"):
        figure = circumstances.users if condition.kind == "users" else circumstances.revenue
        if figure is None or condition.limit is None:
            return "open"
        return "met" if figure <= condition.limit else "passed"
    if condition.kind == "region":
        inside = [circumstances.lies_in(region) for region in condition.regions]
        if None in inside:
            return "open"
        return "passed" if any(inside) else "met"
    return "open"


def _describe(condition: Condition, state: Literal["open", "passed"]) -> str:
    """What the asker must do, as it follows `allowed if you`."""
    if condition.limit is not None and state == "open":
        return f"stay at or under {condition.limit:,} ({condition.measure}); else {condition.text}"
    return condition.text


def _role_words(link: Link) -> str:
    if link.role == "weights":
        return f"Weights of {link.name}"
    return f"Base model {link.name}" if link.role == "base" else f"Training data {link.name}"
