"""Pulling as a job. Parameters: `model`, and `url` where one is given, as programs ask; or `ref` and its options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pantry.core.errors import PantryError
from pantry.core.units import without_secrets
from pantry.operations.jobs.context import JobContext
from pantry.operations.jobs.kind import JobKind


def run(context: JobContext, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch, verify and install. Programs are strangers: by `model` no file of this machine is taken in."""
    from pantry.core.refs import ModelName
    from pantry.operations.pull import Options, download_model, pull

    if "model" in parameters:
        model = download_model(
            context.paths, parameters["model"], parameters.get("url"), context.progress, context.step
        )
        return {"model": str(model.name)}
    name = parameters.get("name")
    options = Options(
        ModelName.parse(name) if name else None,
        parameters.get("repository"),
        bool(parameters.get("pickle")),
        parameters.get("base"),
    )
    pulled = pull(context.paths, parameters["ref"], options, context.step, context.progress)
    return {"model": str(pulled.model) if pulled.model else None, "package": pulled.package.name}


def title(parameters: Mapping[str, Any]) -> str:
    """What is pulled; an address without the parts that may be secret."""
    if "model" in parameters:
        return str(parameters["model"])
    from pantry.repository.refs import UrlRef, parse_ref

    try:
        ref = parse_ref(parameters["ref"])
    except PantryError:
        return without_secrets(str(parameters["ref"]))
    return ref.url.shown if isinstance(ref, UrlRef) else str(ref)


def again(parameters: Mapping[str, Any]) -> str:
    options = {"--name": "name", "--from": "repository", "--base": "base"}
    what = title(parameters)
    if parameters.get("url"):
        what, options = without_secrets(str(parameters["url"])), {"--name": "model"}
    words = ["pantry", "pull", what]
    for option, name in options.items():
        words += [option, str(parameters[name])] if parameters.get(name) else []
    return shlex.join([*words, "--pickle"] if parameters.get("pickle") else words)


KIND = JobKind(run, title, again, resumes=True, at_once=3)
