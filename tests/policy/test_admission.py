import pytest

from pantry.core.errors import PolicyRefusedError
from pantry.core.paths import Paths
from pantry.core.refs import Digest
from pantry.policy.admission import Candidate, admit
from pantry.policy.file import set_rules
from tests.catalogue.shipped import BOOK

GEMMA = Digest(BOOK.model("gemma-3-1b-it").files[0].sha256)
RULES = [
    {"required_use": "commercial"},
    {"accepted_licences": "mit"},
    {"refused_licences": "gemma"},
    {"accepted_families": "qwen"},
    {"refused_families": "gemma"},
    {"unaligned": "refuse"},
]


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: next(iter(rules)))
def test_what_nobody_knows_waits_for_the_thing_and_is_refused_when_it_has_come(
    paths: Paths, rules: dict[str, str]
) -> None:
    set_rules(paths, BOOK, {"mode": "enforce"} | rules)
    assert admit(paths, Candidate("fox", None)).decision.allowed
    with pytest.raises(PolicyRefusedError, match="not known"):
        admit(paths, Candidate("fox", None, signature="unsigned"))


def test_digest_tells_licence_and_family_where_nobody_states_them(paths: Paths) -> None:
    set_rules(paths, BOOK, {"mode": "enforce", "refused_families": "gemma"})
    with pytest.raises(PolicyRefusedError, match="family gemma is refused"):
        admit(paths, Candidate("fox", "mit", "foxes", signature="unsigned", files=(GEMMA,)))
    set_rules(paths, BOOK, {"refused_families": "", "accepted_licences": "mit"})
    with pytest.raises(PolicyRefusedError, match="gemma-terms is not among"):
        admit(paths, Candidate("fox", "mit", signature="unsigned", files=(GEMMA,)))
    set_rules(paths, BOOK, {"accepted_licences": "gemma", "required_use": "research"})
    assert admit(paths, Candidate("fox", None, signature="unsigned", files=(GEMMA,))).decision.allowed


def test_family_is_refused_by_any_of_its_names(paths: Paths) -> None:
    set_rules(paths, BOOK, {"mode": "enforce", "refused_families": "qwen"})
    with pytest.raises(PolicyRefusedError, match="family qwen is refused"):
        admit(paths, Candidate("fox", "mit", "Qwen"))
