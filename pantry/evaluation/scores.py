"""Capability scores that somebody measured on this machine: taken in from a file, kept by model, given as evidence.

Pantry itself measures speed, not what a model is able to do. Whoever ran an evaluation here writes down what came of
it, and the policy, the choice and `pantry show` read it. A file is TOML (or JSON of the same shape):

    [[score]]
    model = "sha256:…"          # the digest of the model's file, or the name of an installed model
    capability = "coding"
    score = 4.5                 # 0: not capable; 10: the level of GPT-4 in 2023
    date = "2026-11-20"
    engine = "llama_cpp"
    task = "HumanEval, pass@1, temperature 0"
"""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import BadFileError, NotFoundError, PantryError, UsageError, did_you_mean
from pantry.core.files import read_bounded
from pantry.core.foreign_json import parse_file_json
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.evaluation.capabilities import KNOWN_CAPABILITIES, Measurement
from pantry.store.database import Database
from pantry.store.models import Store

KIND = "capability score"
"""The kind of these measurements in the database, one row a model and capability."""
MAX_FILE = 1_000_000  # bytes

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: _Text
    capability: _Text
    score: Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)]
    date: datetime.date
    engine: _Text
    task: _Text


@dataclass(frozen=True)
class Score:
    """One capability score of one model, with when, with what and by which task it was measured."""

    model: Digest
    capability: str
    score: float
    date: str
    engine: str
    task: str


def add_scores(paths: Paths, catalogue: Catalogue, file: Path) -> list[Score]:
    """Take in the scores of `file`, all or none; each takes the place of the older one of its model and capability.

    Raises BadFileError that names the file, the entry and the field; UsageError for an unknown capability, a model that
    is not installed, or a date to come; StorageError.
    """
    rows = _read(file)
    known = KNOWN_CAPABILITIES | catalogue.capabilities
    with Store.open(paths) as store:
        names = {str(model.name): model.digest for model in store.list()}
        scores = [_score(row, f"{file.name}, score {number}", names, known) for number, row in enumerate(rows, start=1)]
        with store.database.transaction():
            for score in scores:
                _keep(store.database, score)
    return scores


def remove_scores(paths: Paths, model: str) -> int:
    """Forget the scores of a model, by its name or digest; how many there were. Raises NotFoundError for none."""
    with Store.open(paths) as store:
        digest = _digest(model, {str(each.name): each.digest for each in store.list()})
        gone = [score for score in list_scores(store.database) if score.model == digest]
        if not gone:
            raise NotFoundError(f"No score of {model[:80]!r} is kept.", hint="See: pantry score list")
        with store.database.transaction():
            for score in gone:
                store.database.execute(
                    "DELETE FROM measurements WHERE kind = ? AND subject = ?", (KIND, _subject(score))
                )
    return len(gone)


def list_scores(database: Database) -> list[Score]:
    """All scores, by model and capability."""
    found = []
    rows = database.rows(
        "SELECT subject, value, details, measured_at FROM measurements WHERE kind = ? ORDER BY subject", (KIND,)
    )
    for row in rows:
        model, _, capability = str(row["subject"]).partition(" ")
        details = json.loads(row["details"])
        found.append(
            Score(Digest.parse(model), capability, row["value"], row["measured_at"], details["engine"], details["task"])
        )
    return found


def scores_of(database: Database) -> dict[Digest, dict[str, Measurement]]:
    """The scores of every model that has any, by capability."""
    found: dict[Digest, dict[str, Measurement]] = {}
    for each in list_scores(database):
        found.setdefault(each.model, {})[each.capability] = Measurement(each.score, each.date, each.engine)
    return found


def score_values(database: Database, model: Digest) -> dict[str, float]:
    """The capability scores of one model, by capability."""
    return {name: each.score for name, each in scores_of(database).get(model, {}).items()}


def _read(file: Path) -> list[_Row]:
    rows = _table(read_bounded(file, MAX_FILE, name=file.name), file).get("score")
    if not isinstance(rows, list) or not rows:
        raise BadFileError(f"{file.name} holds no scores.", hint="Each begins with [[score]]; see docs/catalogue.md.")
    return [_row(row, f"{file.name}, score {number}") for number, row in enumerate(rows, start=1)]


def _table(content: bytes, file: Path) -> Mapping[str, Any]:
    if file.suffix == ".json":
        table = parse_file_json(content, file.name)
        return table if isinstance(table, dict) else {}
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{file.name} is not valid TOML: {error}.") from None


def _row(row: object, place: str) -> _Row:
    try:
        return _Row.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "entry"
        given = "" if first["type"] == "missing" else f", got {str(first['input'])[:60]!r}"
        hint = "A score has model, capability, score, date, engine and task."
        raise BadFileError(f"{place}: {name}: {first['msg']}{given}.", hint=hint) from None


def _score(row: _Row, place: str, names: Mapping[str, Digest], known: frozenset[str]) -> Score:
    capability = row.capability.lower()
    try:
        digest = _digest(row.model, names)
    except PantryError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from None
    if capability not in known:
        others = f"Known: {', '.join(sorted(known))}."
        raise UsageError(
            f"{place}: there is no capability {row.capability[:60]!r}.", hint=did_you_mean(capability, known, others)
        )
    if row.date > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
        raise UsageError(f"{place}: the date {row.date} is still to come.")
    return Score(digest, capability, row.score, row.date.isoformat(), row.engine, row.task)


def _digest(text: str, names: Mapping[str, Digest]) -> Digest:
    if text.startswith("sha256:"):
        return Digest.parse(text)
    name = str(ModelName.parse(text))
    if name not in names:
        hint = did_you_mean(name, names, "Give its digest, or see: pantry list")
        raise NotFoundError(f"The model {name!r} is not installed.", hint=hint)
    return names[name]


def _subject(score: Score) -> str:
    return f"{score.model} {score.capability}"


def _keep(database: Database, score: Score) -> None:
    details = json.dumps({"engine": score.engine, "task": score.task})
    database.execute(
        "INSERT OR REPLACE INTO measurements (kind, subject, value, unit, details, measured_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (KIND, _subject(score), score.score, "of 10", details, score.date),
    )
