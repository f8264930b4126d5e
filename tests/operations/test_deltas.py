"""Deltas as use-cases: packed and signed, with licences, on installed models."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.core.errors import (
    BadFileError,
    ConflictError,
    NotFoundError,
    PolicyRefusedError,
    VerificationError,
)
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.cards.dataset_card import Card, render_card
from pantry.flatpack.signing.keys import new_key
from pantry.flatpack.signing.signature import sign
from pantry.install.delta_files import open_model
from pantry.install.installed import add_model
from pantry.operations.deltas import (
    DeltaFacts,
    apply_deltas,
    flatten_deltas,
    inspect_delta,
    make_delta,
)
from pantry.operations.keys import trust
from pantry.store.models import Store
from tests.formats.model_files import base_tensors, gguf, read_tree, safetensors, tuned_tensors, write_folder


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """A base and two fine-tunes, one on the other."""
    found = []
    for number in range(3):
        tensors = tuned_tensors(seed=number) if number else base_tensors()
        tree = {"m.safetensors": safetensors(tensors), "config.json": b"{}" * (number + 1)}
        found.append(write_folder(tmp_path / f"model{number}", tree))
    return found


def test_a_packed_delta_rebuilds_its_target(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    out = tmp_path / "tuned.fpk"
    facts = DeltaFacts(name="ada/tuned", licence="Apache-2.0", base_licence="MIT", base_terms="Ask first.")
    made = make_delta(paths, str(models[0]), str(models[1]), out, facts=facts)
    assert made.size == out.stat().st_size < made.report.size
    applied = apply_deltas(paths, str(models[0]), [out], tmp_path / "result")
    assert read_tree(tmp_path / "result") == read_tree(models[1])
    assert applied.licence == "MIT AND Apache-2.0"
    assert applied.warnings == ["ada/tuned 1.0.0 is not signed."]
    report, verdict = inspect_delta(paths, out)
    assert report.base_terms.terms == "Ask first."
    assert verdict.state == "unsigned"
    assert {total.op for total in report.totals()} >= {"sub", "copy"}
    assert report.most_changed(1)[0].change == max(piece.change or 0.0 for piece in report.pieces)


def test_an_unsigned_delta_is_refused_where_a_signature_is_required(
    tmp_path: Path, paths: Paths, models: list[Path]
) -> None:
    make_delta(paths, str(models[0]), str(models[1]), tmp_path / "tuned.fpk")
    with pytest.raises(PolicyRefusedError, match="not signed") as caught:
        apply_deltas(paths, str(models[0]), [tmp_path / "tuned.fpk"], tmp_path / "result", require_signature=True)
    assert "key trust" not in (caught.value.hint or ""), "there is no signer to trust"
    assert not (tmp_path / "result").exists()


def test_a_signed_delta_of_a_trusted_publisher_raises_no_warning(
    tmp_path: Path, paths: Paths, models: list[Path]
) -> None:
    key = new_key("p256")
    make_delta(paths, str(models[0]), str(models[1]), tmp_path / "tuned.fpk")
    signed = sign(tmp_path / "tuned.fpk", [key])
    unknown = apply_deltas(paths, str(models[0]), [signed], tmp_path / "first")
    assert "not known here" in unknown.warnings[0]
    (tmp_path / "ada.pem").write_bytes(key.public.pem)
    trust(paths, tmp_path / "ada.pem")
    known = apply_deltas(paths, str(models[0]), [signed], tmp_path / "second", require_signature=True)
    assert known.warnings == []
    assert known.verdicts[0].state == "trusted"
    assert read_tree(tmp_path / "second") == read_tree(models[1])


def test_a_packed_delta_that_was_changed_is_refused(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    out = tmp_path / "tuned.fpk"
    make_delta(paths, str(models[0]), str(models[1]), out)
    content = bytearray(out.read_bytes())
    content[len(content) // 2] ^= 1
    out.write_bytes(content)
    with pytest.raises(BadFileError):
        apply_deltas(paths, str(models[0]), [out], tmp_path / "result")
    assert {path.name for path in tmp_path.iterdir()} == {"tuned.fpk", "model0", "model1", "model2"}


def test_a_wrong_base_leaves_nothing(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    make_delta(paths, str(models[0]), str(models[1]), tmp_path / "tuned.fpk")
    with pytest.raises(VerificationError, match="not the base"):
        apply_deltas(paths, str(models[2]), [tmp_path / "tuned.fpk"], tmp_path / "result")
    assert {path.name for path in tmp_path.iterdir()} == {"tuned.fpk", "model0", "model1", "model2"}


def test_a_chain_is_applied_and_flattened(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    facts = [DeltaFacts(base_licence="MIT", base_repository="https://example.org"), DeltaFacts(licence="CC-BY-4.0")]
    steps = [tmp_path / "one.fpk", tmp_path / "two"]
    for number, (step, fact) in enumerate(zip(steps, facts, strict=True)):
        make_delta(paths, str(models[number]), str(models[number + 1]), step, facts=fact)
    applied = apply_deltas(paths, str(models[0]), steps[::-1], tmp_path / "result")
    assert applied.licence == "MIT AND CC-BY-4.0"
    flat = flatten_deltas(paths, str(models[0]), steps, tmp_path / "flat.fpk")
    assert flat.report.manifest.licence.weights == "MIT AND CC-BY-4.0"
    assert flat.report.manifest.delta is not None
    assert flat.report.manifest.delta.bases[0].repository == "https://example.org"
    apply_deltas(paths, str(models[0]), [tmp_path / "flat.fpk"], tmp_path / "again")
    assert read_tree(tmp_path / "result") == read_tree(tmp_path / "again") == read_tree(models[2])


def test_single_files_flatten_to_a_single_file(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    files = [str(model / "m.safetensors") for model in models]
    for number in range(2):
        make_delta(paths, files[number], files[number + 1], tmp_path / f"{number}.fpk")
    flatten_deltas(paths, files[0], [tmp_path / "1.fpk", tmp_path / "0.fpk"], tmp_path / "flat.fpk")
    apply_deltas(paths, files[0], [tmp_path / "flat.fpk"], tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == Path(files[2]).read_bytes()


def test_an_installed_model_is_a_base(tmp_path: Path, paths: Paths) -> None:
    old, new = base_tensors(), tuned_tensors()
    for tensors in (old, new):
        del tensors["layer.steps"]
    (tmp_path / "base.gguf").write_bytes(gguf(old))
    (tmp_path / "tuned.gguf").write_bytes(gguf(new))
    with Store.open(paths) as store:
        add_model(store, tmp_path / "base.gguf", ModelName("plain"))
    made = make_delta(paths, "plain", str(tmp_path / "tuned.gguf"), tmp_path / "tuned.fpk")
    assert made.report.manifest.delta is not None
    assert made.report.manifest.delta.bases[0].files[0].path == "plain.gguf"
    apply_deltas(paths, "plain", [tmp_path / "tuned.fpk"], tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "tuned.gguf").read_bytes()


def test_an_installed_model_is_not_hashed_again(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has just checked it; half the reading of a large base is saved."""
    tensors = base_tensors()
    del tensors["layer.steps"]
    (tmp_path / "base.gguf").write_bytes(gguf(tensors))
    with Store.open(paths) as store:
        digest = add_model(store, tmp_path / "base.gguf", ModelName("plain")).digest
    monkeypatch.setattr("pantry.workshop.delta.sources._hash_range", None)
    with open_model(paths, "plain") as source:
        assert source.files[0].digest == digest


def test_a_base_that_does_not_exist_is_named(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    for name in ("no-such-model", "no/such/file"):
        with pytest.raises(NotFoundError, match=name):
            make_delta(paths, name, str(models[1]), tmp_path / "out.fpk")


def test_a_delta_is_never_written_over_something(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    with pytest.raises(ConflictError):
        make_delta(paths, str(models[0]), str(models[1]), models[2])


def test_another_kind_of_flatpack_is_no_delta(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    (tmp_path / "x.fpk").write_bytes(b"not a flatpack at all, only text" * 10)
    with pytest.raises(BadFileError):
        apply_deltas(paths, str(models[0]), [tmp_path / "x.fpk"], tmp_path / "out")
    with pytest.raises(NotFoundError):
        apply_deltas(paths, str(models[0]), [tmp_path / "y.fpk"], tmp_path / "out")


def test_the_card_of_the_change_travels_with_the_delta(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    card = render_card(Card(name="Notes")).replace("[", "").replace("]", "")
    (models[1] / "DATASET.md").write_text(card)
    for out in (tmp_path / "folder", tmp_path / "packed.fpk"):
        make_delta(paths, str(models[0]), str(models[1]), out)
    with Reader(tmp_path / "packed.fpk") as reader:
        assert reader.read("DATASET.md").decode() == card
        assert reader.manifest.provenance.data_unknown is None
    assert (tmp_path / "folder" / "DATASET.md").read_text() == card
    flatten_deltas(paths, str(models[0]), [tmp_path / "folder"], tmp_path / "flat.fpk")
    with Reader(tmp_path / "flat.fpk") as reader:
        assert reader.read("DATASET.md").decode() == card


def test_a_delta_of_weights_without_a_card_says_so(tmp_path: Path, paths: Paths, models: list[Path]) -> None:
    make_delta(paths, str(models[0]), str(models[1]), tmp_path / "tuned.fpk")
    with Reader(tmp_path / "tuned.fpk") as reader:
        assert "without a DATASET.md" in (reader.manifest.provenance.data_unknown or "")
    (models[1] / "DATASET.md").write_text(render_card())
    with pytest.raises(BadFileError, match="is still"):
        make_delta(paths, str(models[0]), str(models[1]), tmp_path / "other.fpk")
