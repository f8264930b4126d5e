"""What the handlers of every surface work with."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from pantry.access.apps import Registrar
from pantry.service.jobs import JobRunner
from pantry.service.models import ModelService
from pantry.service.sessions import SessionService
from pantry.service.state import Gateway


@dataclass(frozen=True)
class ServiceContext:
    """The parts of one running service."""

    gateway: Gateway
    runner: JobRunner
    models: ModelService
    sessions: SessionService
    registrar: Registrar

    @classmethod
    def around(cls, gateway: Gateway) -> ServiceContext:
        """The parts around one state."""
        runner = JobRunner(gateway)
        registrar = Registrar(gateway.store.database, gateway.settings)
        return cls(gateway, runner, ModelService(gateway, runner), SessionService(gateway), registrar)


CONTEXT = web.AppKey("context", ServiceContext)
"""Where handlers find the parts of the service."""
