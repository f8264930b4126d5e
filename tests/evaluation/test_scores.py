import json
from pathlib import Path

import pytest

from pantry.core.errors import ModelNotFoundError, NotFoundError, PantryError, PolicyRefusedError, StorageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.evaluation.scores import add_scores, list_scores, remove_scores
from pantry.install.installed import add_model
from pantry.operations.catalogue import describe_any
from pantry.operations.choose import choose
from pantry.operations.policy import explain
from pantry.policy.file import set_rules
from pantry.policy.load_check import admit_load
from pantry.store.models import InstalledModel, Store
from tests.catalogue.shipped import BOOK

ROW = {
    "model": "tiny", "capability": "coding", "score": 4.5, "date": "2026-11-20", "engine": "llama_cpp",
    "task": "HumanEval",
}  # fmt: skip


@pytest.fixture
def model(paths: Paths, tiny_gguf: Path) -> InstalledModel:
    with Store.open(paths) as store:
        return add_model(store, tiny_gguf, ModelName.parse("tiny"))


def written(tmp_path: Path, *rows: object) -> Path:
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"score": list(rows)}))
    return file


def test_policy_choice_and_show_go_by_the_scores_of_a_file(paths: Paths, model: InstalledModel, tmp_path: Path) -> None:
    set_rules(paths, BOOK, {"mode": "enforce", "minimum_evidence.coding": "3"})
    with Store.open(paths) as store:
        parts = store.verified_parts(model)
    with pytest.raises(PolicyRefusedError, match="coding was not measured here"):
        admit_load(paths, model, parts)
    toml = tmp_path / "scores.toml"
    toml.write_text("[[score]]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in ROW.items()))
    (score,) = add_scores(paths, BOOK, toml)
    assert (score.model, score.capability, score.score) == (model.digest, "coding", 4.5)
    admit_load(paths, model, parts)
    assert "Coding was measured at 4.5" in explain(paths, BOOK, "tiny").paragraph()
    assert describe_any(paths, BOOK, "tiny").scores == (score,)
    chosen = choose("coding>=3,CODING", mode="requirements_load", paths=paths)
    assert "coding 4.5 (measured 2026-11-20 with llama_cpp)" in chosen.reason
    with pytest.raises(ModelNotFoundError, match=r"coding 4\.5 \(measured\), wanted 5"):
        choose("coding>=5", mode="requirements_load", paths=paths)


def test_score_takes_the_place_of_the_older_one_until_it_is_forgotten(
    paths: Paths, model: InstalledModel, tmp_path: Path
) -> None:
    add_scores(paths, BOOK, written(tmp_path, ROW, ROW | {"capability": "writing"}))
    add_scores(paths, BOOK, written(tmp_path, ROW | {"score": 2, "model": str(model.digest)}))
    with Store.open(paths) as store:
        assert [(each.capability, each.score) for each in list_scores(store.database)] == [
            ("coding", 2),
            ("writing", 4.5),
        ]
    assert remove_scores(paths, "tiny") == 2
    with pytest.raises(NotFoundError, match="No score"):
        remove_scores(paths, "tiny")


def test_score_of_a_model_that_is_not_here_yet_is_kept_by_its_digest(paths: Paths, tmp_path: Path) -> None:
    (score,) = add_scores(paths, BOOK, written(tmp_path, ROW | {"model": f"sha256:{'a' * 64}"}))
    assert score.model.hex == "a" * 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "tinny"}, "not installed"),
        ({"model": "sha256:abc"}, "is not a digest"),
        ({"capability": "codng"}, "no capability"),
        ({"score": 11}, "score"),
        ({"score": -1}, "score"),
        ({"score": "4"}, "score"),
        ({"score": float("nan")}, "score"),
        ({"score": True}, "score"),
        ({"date": "yesterday"}, "date"),
        ({"date": "2999-01-01"}, "still to come"),
        ({"engine": ""}, "engine"),
        ({"task": "x" * 201}, "task"),
        ({"more": 1}, "more"),
    ],
)
def test_wrong_score_is_named_and_none_of_the_file_is_kept(
    paths: Paths, model: InstalledModel, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(PantryError, match=message) as caught:
        add_scores(paths, BOOK, written(tmp_path, ROW, ROW | change))
    assert "scores.json, score 2" in str(caught.value)
    with Store.open(paths) as store:
        assert not list_scores(store.database)


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 100_000, '{"score": {}}', '{"score": []}', '{"score": [1]}', " " * 1_000_001, "\udcff"]
)
@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_file_that_holds_no_scores_is_named(paths: Paths, tmp_path: Path, content: str, suffix: str) -> None:
    file = tmp_path / f"scores.{suffix}"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(PantryError, match="scores"):
        add_scores(paths, BOOK, file)


def test_file_that_is_not_there_is_named(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"scores\.toml"):
        add_scores(paths, BOOK, tmp_path / "scores.toml")
