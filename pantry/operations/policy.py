"""The policy of a home: read, change, and ask it about a model."""

from __future__ import annotations

from dataclasses import replace

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import VerificationError
from pantry.core.paths import Paths
from pantry.evaluation.scores import score_values
from pantry.formats.verdict import FormatVerdict
from pantry.install.installed import find_model
from pantry.policy.decision import Action, Decision, decide
from pantry.policy.file import load_policy
from pantry.policy.identity import identity_of
from pantry.policy.subjects import installed_subject, subject_of
from pantry.starter import STARTER
from pantry.store.models import InstalledModel, Store


def explain(paths: Paths, catalogue: Catalogue, name: str, action: Action | None = None) -> Decision:
    """What the policy says about an installed model (by default: loading it) or one of the catalogue (pulling it).

    For an installed model its digest is checked and its file looked into. Raises NotFoundError for an unknown name.
    """
    policy = load_policy(paths, catalogue)
    with Store.open(paths) as store:
        if name.strip().lower() == str(STARTER):
            find_model(paths, store, STARTER)  # it comes with Pantry
        installed = next((model for model in store.list() if str(model.name) == name.strip().lower()), None)
        if installed is not None:
            scores = score_values(store.database, installed.digest)
            subject = installed_subject(catalogue, installed, identity_of(catalogue, installed), policy, scores)
            matches, verdict = _file_facts(store, installed)
            return decide(policy, replace(subject, digest_matches=matches, format=verdict), action or "load")
    return decide(policy, subject_of(catalogue, catalogue.model(name), policy), action or "pull")


def _file_facts(store: Store, model: InstalledModel) -> tuple[bool | None, FormatVerdict | None]:
    """Whether the model's files have their digests, and what a scan found; None where there is nothing to look at."""
    if model.remote:
        return None, None
    try:
        parts = store.verified_parts(model)
    except VerificationError:
        return False, None
    return True, model.kind.scan(parts)
