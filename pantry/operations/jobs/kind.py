"""What a kind of job is, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pantry.core.registry import Registry
from pantry.operations.jobs.context import JobContext

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class JobKind:
    """How jobs of one kind run.

    `run` does the work and gives its result; it reports to the context, and is stopped as by Ctrl-C. `title` says in a
    word what a job is about, `again` how a person takes an interrupted one up. A kind that `resumes` goes on where it
    stopped when it is run again (`JobContext.resuming`). At most `at_once` jobs of the kind run beside each other.
    """

    run: Callable[[JobContext, Parameters], dict[str, Any]]
    title: Callable[[Parameters], str]
    again: Callable[[Parameters], str]
    resumes: bool
    at_once: int = 1


KINDS = Registry("pantry.operations.jobs.kinds", "pantry.job_kinds", "KIND", "kind of job")
