"""From what is needed to a model, and why. Pure rules over candidates that others gathered.

Hard requirements come first: a candidate that misses one is out. Among the rest the cheapest state wins (loaded before
installed before available), then the preferences in the order they are stated, then the `general` score, then fixed
tie breaks. What was measured on this machine outranks what a tag or a maker declares.
"""

from pantry.selection.candidate import Candidate, State, lacks, meets
from pantry.selection.choosing import RUNNERS_UP, CatalogueCounts, Choice, RunnerUp, Screened, check, choose, settle
from pantry.selection.ranking import BEARABLE, READABLE
from pantry.selection.request import (
    AUTO,
    MODES,
    PREFERENCES,
    Fallback,
    Need,
    Request,
    Vocabulary,
    parse_auto,
    parse_mode,
    parse_needs,
    parse_preferences,
)

__all__ = [
    "AUTO",
    "BEARABLE",
    "MODES",
    "PREFERENCES",
    "READABLE",
    "RUNNERS_UP",
    "Candidate",
    "CatalogueCounts",
    "Choice",
    "Fallback",
    "Need",
    "Request",
    "RunnerUp",
    "Screened",
    "State",
    "Vocabulary",
    "check",
    "choose",
    "lacks",
    "meets",
    "parse_auto",
    "parse_mode",
    "parse_needs",
    "parse_preferences",
    "settle",
]
