"""Requests, models and answers as the replies of the service carry them."""

from __future__ import annotations

import time
from typing import Any

from pantry.engines.pool import LoadedModel
from pantry.service.context import ServiceContext
from pantry.service.generation.text import Completion
from pantry.service.state import Gateway
from pantry.store.jobs import Job
from pantry.store.models import InstalledModel
from pantry.store.requests import AppRequest


def request_object(service: ServiceContext, request: AppRequest) -> dict[str, Any]:
    """A request as replies carry it; a download tells its job, and while it runs its progress in bytes."""
    job = service.runner.jobs.of_request(request.id) if request.kind == "download" else None
    progress = job.progress if job is not None and job.progress.total is not None and not job.ended else None
    return {
        "id": request.id,
        "app": request.app,
        "kind": request.kind,
        "details": request.details,
        "state": request.state,
        "outcome": request.outcome,
        "complete": request.complete,
        "accepted": request.accepted,
        "created_at": request.created_at,
        "progress": {"done": progress.done, "total": progress.total} if progress else None,
        "job": job.id if job else None,
    }


def job_object(job: Job, *, owner: bool) -> dict[str, Any]:
    """A job as replies carry it; apps are not told which process runs it."""
    whole = job.to_json()
    return whole if owner else {name: value for name, value in whole.items() if name != "process"}


def model_object(service: ServiceContext, model: InstalledModel) -> dict[str, Any]:
    """An installed model as replies carry it; `size` in bytes."""
    return {
        "name": str(model.name),
        "digest": str(model.digest),
        "size": model.size,
        "format": model.format,
        "loaded": service.gateway.is_loaded(model.name),
        "facts": model.facts,
    }


def answer_object(model: InstalledModel, completion: Completion) -> dict[str, Any]:
    """A whole answer as replies carry it."""
    return {
        "model": str(model.name),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.usage.prompt_tokens,
            "completion_tokens": completion.usage.completion_tokens,
            "cached_tokens": completion.usage.cached_tokens,
        },
    }


def loaded_object(gateway: Gateway, entry: LoadedModel) -> dict[str, Any]:
    """A loaded model for `pantry ps`. Times are seconds, memory bytes."""
    keep = gateway.settings.keep_alive
    left = keep - (time.monotonic() - entry.last_used) if keep and not entry.pinned and entry.idle else None
    return {
        "name": str(entry.model.name),
        "digest": str(entry.model.digest),
        "state": "ready" if entry.running else "loading",
        "engine": entry.engine,
        "context": entry.options.context,
        "parallel": entry.options.parallel,
        "threads": entry.options.threads,
        "active": entry.active,
        "waiting": entry.waiting,
        "pinned": entry.pinned,
        "estimated_memory": entry.need.total if entry.need else None,
        "memory": entry.worker.memory() if entry.worker else 0,
        "pid": entry.worker.pid if entry.worker else None,
        "unloads_in": max(0.0, left) if left is not None else None,
    }
