"""What the service counts, as Prometheus text on /metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from pantry.engines.pool import Pool

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry, model = self.registry, ("model",)
        ProcessCollector(registry=registry)
        self.requests = Counter("pantry_requests", "Requests", ("route", "status"), registry=registry)
        self.prompt_tokens = Counter("pantry_prompt_tokens", "Prompt tokens read", model, registry=registry)
        self.completion_tokens = Counter("pantry_completion_tokens", "Tokens generated", model, registry=registry)
        self.first_token = Histogram(
            "pantry_first_token_seconds", "Time to the first token", model, buckets=_SECONDS, registry=registry
        )
        self.duration = Histogram(
            "pantry_answer_seconds", "Time of whole answers", model, buckets=_SECONDS, registry=registry
        )
        self.active = Gauge("pantry_active_answers", "Answers being worked on or waited for", registry=registry)
        self.queued = Gauge("pantry_queued_requests", "Requests that wait for a slot", registry=registry)
        self.loaded = Gauge("pantry_loaded_models", "Models with a running worker", registry=registry)
        self.worker_memory = Gauge("pantry_worker_memory_bytes", "Resident memory", model, registry=registry)
        self.loads = Gauge("pantry_model_loads", "Models loaded since the start", registry=registry)
        self.crashes = Gauge("pantry_worker_crashes", "Workers found dead since the start", registry=registry)

    @contextlib.contextmanager
    def answering(self, model: str) -> Iterator[Measure]:
        """Measure one answer."""
        measure = Measure(self, model)
        self.active.inc()
        try:
            yield measure
        finally:
            self.active.dec()
            self.duration.labels(model).observe(time.perf_counter() - measure.start)

    def text(self, pool: Pool) -> bytes:
        """All counters now, in the Prometheus text format."""
        self.queued.set(pool.queued())
        self.loads.set(pool.loads)
        self.crashes.set(pool.crashes)
        loaded = pool.loaded()
        self.loaded.set(len(loaded))
        self.worker_memory.clear()
        for entry in loaded:
            if entry.worker:
                self.worker_memory.labels(str(entry.model.name)).set(entry.worker.memory())
        return generate_latest(self.registry)


class Measure:
    """The measurement of one answer."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self.start = time.perf_counter()
        self.events = 0
        self._metrics, self._model, self._seen_first = metrics, model, False

    def saw(self, events: int) -> None:
        """Note that the engine sent so many events."""
        self.events += events

    def first(self) -> None:
        """Note that something of the answer came; only the first call counts."""
        if not self._seen_first:
            self._seen_first = True
            self._metrics.first_token.labels(self._model).observe(time.perf_counter() - self.start)

    def count(self, prompt_tokens: int, completion_tokens: int) -> None:
        self._metrics.prompt_tokens.labels(self._model).inc(prompt_tokens)
        self._metrics.completion_tokens.labels(self._model).inc(completion_tokens)
