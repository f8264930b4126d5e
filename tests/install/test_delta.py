"""Pulling deltas from a repository on a real server: base found, pulled, wrong, under terms; chains; interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pantry.core.errors import (
    BadFileError,
    NotFoundError,
    PantryError,
    PolicyRefusedError,
    StorageError,
    TermsError,
    VerificationError,
)
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.flatpack.archive.archive import pack
from pantry.flatpack.manifest import write_manifest
from pantry.flatpack.signing.keys import PrivateKey, new_key
from pantry.flatpack.signing.signature import sign
from pantry.install.delta import MAX_PLACES
from pantry.install.installed import add_model
from pantry.operations.deltas import DeltaFacts, make_delta
from pantry.operations.models import remove_model
from pantry.operations.packages import collect_garbage, verify_everything
from pantry.operations.pull import Options, Pulled, pull
from pantry.operations.repositories import add_repository
from pantry.store.models import Store
from pantry.store.packages import Packages
from pantry.workshop.delta import apply as apply_module
from tests.formats.model_files import bf16, gguf, normal, safetensors, sharded, write_folder
from tests.formats.test_split import split_model
from tests.repository.flatpacks import SIGNER, Published, make_flatpack, trust_signer
from tests.repository.servers import FileServer, serving

ROWS = 1000


def weights(seed: int) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """A small model; seed 0 is the base, others are fine-tunes of it."""
    moved = normal(seed + 10, ROWS, 128, scale=0.0005) if seed else 0
    return {
        "token_embd.weight": ("bf16", (ROWS, 128), bf16(normal(1, ROWS, 128) + moved)),
        "blk.0.norm.weight": ("f32", (64,), normal(2, 64).tobytes()),
    }


MODELS = [gguf(weights(seed)) for seed in range(3)]


@dataclass
class Lab:
    """A repository with its server, and a home of its own to make deltas in."""

    published: Published
    url: str
    folder: Path
    server: FileServer

    def delta(
        self,
        name: str,
        base: bytes | Path,
        target: bytes | Path,
        *,
        key: PrivateKey | None = SIGNER,
        publish: bool = True,
        **facts: str,
    ) -> Path:
        """Make a delta `name` 1.0.0, sign and publish it."""
        room = self.folder / f"make-{name}"
        places = []
        for what, content in (("base", base), ("tuned", target)):
            if isinstance(content, bytes):
                (room / what).mkdir(parents=True)
                (room / what / "model.gguf").write_bytes(content)
                content = room / what / "model.gguf"
            places.append(str(content))
        out = room / f"{name}.fpk"
        told = DeltaFacts(**{"name": name, "licence": "Apache-2.0"} | facts)  # type: ignore[arg-type]
        make_delta(Paths(*(room / "home" / part for part in ("c", "d", "r"))), *places, out, facts=told)
        if key is not None:
            sign(out, [key])
        if publish:
            self.published.publish(out)
        return out


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Published(tmp_path / "lab").create()
    made.publish(make_flatpack(tmp_path / "work", "fox", content=MODELS[0], licence="MIT"))
    with serving(made.folder) as server:
        yield Lab(made, server.url, tmp_path, server)


@pytest.fixture
def added(paths: Paths, lab: Lab) -> Paths:
    """A home that knows the repository and trusts its signer."""
    trust_signer(paths)
    add_repository(paths, "lab", lab.url, lab.published.folder / "root.json")
    return paths


def pulled(paths: Paths, name: str, **options: object) -> tuple[Pulled, list[tuple[str, str]]]:
    steps: list[tuple[str, str]] = []
    result = pull(paths, name, Options(**options), say=lambda step, words: steps.append((step, words)))  # type: ignore[arg-type]
    return result, steps


def models(paths: Paths) -> list[str]:
    with Store.open(paths) as store:
        return [str(model.name) for model in store.list()]


def content(paths: Paths, name: str) -> bytes:
    with Store.open(paths) as store:
        return store.verified_file(store.get(ModelName.parse(name))).read_bytes()


def left_behind(paths: Paths) -> list[str]:
    """Names of what is on its way into the store; locks of nobody do not count."""
    return [file.name for file in paths.partial.glob("*") if file.suffix != ".lock"]


def test_a_delta_pulls_its_base_and_becomes_a_model(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox", base_licence="MIT")
    result, steps = pulled(added, "tuned")
    assert result.model == ModelName("tuned")
    assert [step for step, _ in steps] == [
        "metadata verified", "resolving", "downloading", "digest verified", "signature", "licence",
        "base terms",
        "metadata verified", "resolving", "downloading", "digest verified", "signature", "licence", "installed",
        "base found", "rebuilding", "digest verified", "installed",
    ]  # fmt: skip
    assert ("base terms", "fox, licence MIT") in steps
    assert ("base found", "fox: every digest is right") in steps
    assert content(added, "tuned") == MODELS[1]
    assert models(added) == ["fox", "tuned"]
    with Store.open(added) as store:
        facts = store.get(ModelName("tuned")).facts
        files = [file.path for file in Packages(store).files(result.package)]
    assert facts["licence"] == "MIT AND Apache-2.0"
    assert "base" not in facts, "its licence is in the result's"
    assert facts["built_from"].startswith("fox (")
    assert files == ["flatpack.toml", "model.gguf"], "the payload is not kept"
    assert left_behind(added) == []


def test_a_second_pull_is_up_to_date(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox")
    pull(added, "tuned")
    lab.server.requests.clear()
    assert pull(added, "tuned").up_to_date
    assert not [path for path in lab.server.paths() if "targets/" in path]


def test_a_base_that_is_here_under_another_name_is_used(added: Paths, lab: Lab, tmp_path: Path) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="a-name-nobody-offers", base_terms="Ask first.")
    (tmp_path / "x.gguf").write_bytes(MODELS[0])
    with Store.open(added) as store:
        add_model(store, tmp_path / "x.gguf", ModelName("mine"))
    _, steps = pulled(added, "tuned")
    assert ("base found", "mine: every digest is right") in steps
    assert "base terms" not in dict(steps), "nothing is asked for"
    with Store.open(added) as store:
        assert store.get(ModelName("tuned")).facts["base"] == ["a-name-nobody-offers"], "its licence is not known"
    assert content(added, "tuned") == MODELS[1]


def test_a_base_in_the_cache_of_another_runner_is_used(
    added: Paths, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="a-name-nobody-offers")
    cache = tmp_path / ".lmstudio" / "models" / "ada" / "fox"
    cache.mkdir(parents=True)
    (cache / "fox-bf16.gguf").write_bytes(MODELS[0])
    monkeypatch.setenv("HOME", str(tmp_path))
    _, steps = pulled(added, "tuned")
    assert "lmstudio" in dict(steps)["base found"]
    assert content(added, "tuned") == MODELS[1]
    assert models(added) == ["tuned"]


def test_the_same_weights_in_another_file_cut_are_a_base(added: Paths, lab: Lab, tmp_path: Path) -> None:
    trees = [{"model.safetensors": safetensors(weights(0))}, sharded(weights(0), 2)]
    tuned = write_folder(tmp_path / "tuned", {"model.safetensors": safetensors(weights(1))})
    lab.delta("tuned", write_folder(tmp_path / "one", trees[0]), tuned, base_name="cut")
    cut = make_flatpack(tmp_path / "work", "cut", content=b"", extra=trees[1], facts={"file": "flatpack.toml"})
    lab.published.publish(cut)
    result, steps = pulled(added, "tuned")
    assert "the same weights in other files" in dict(steps)["base found"]
    assert result.model is None
    with Store.open(added) as store:
        (file,) = [f for f in Packages(store).files(result.package) if f.path == "model.safetensors"]
        assert store.blobs.verified_path(file.digest).read_bytes() == safetensors(weights(1))


def test_a_base_named_by_the_user_is_used(added: Paths, lab: Lab, tmp_path: Path) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="nobody/has-it")
    (tmp_path / "base.gguf").write_bytes(MODELS[0])
    pulled(added, "tuned", base=str(tmp_path / "base.gguf"))
    assert content(added, "tuned") == MODELS[1]
    (tmp_path / "base.gguf").write_bytes(MODELS[2])
    lab.delta("other", MODELS[0], MODELS[1])
    with pytest.raises(VerificationError, match="not the base"):
        pulled(added, "other", base=str(tmp_path / "base.gguf"))
    assert models(added) == ["tuned"]


def test_a_base_that_nobody_has_is_named_with_its_place(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="llama", base_repository="https://example.org/ask")
    with pytest.raises(NotFoundError, match=r"difference from llama.*had from https://example.org/ask") as caught:
        pull(added, "tuned")
    assert "--base" in (caught.value.hint or "")
    assert models(added) == []


@pytest.mark.parametrize("place", ["/etc/passwd", "./base.fpk", "~/base.fpk", "file:///etc/passwd", "..", "\x1b[2J"])
def test_a_base_is_never_taken_from_a_place_on_this_machine(added: Paths, lab: Lab, place: str) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="llama", base_repository=place)
    with pytest.raises(NotFoundError, match="not on this machine") as caught:
        pull(added, "tuned")
    assert "\x1b" not in caught.value.message


def test_a_base_at_an_address_is_fetched_where_that_is_allowed(
    added: Paths, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fpk = make_flatpack(tmp_path / "work", "far", content=MODELS[0])
    (lab.published.folder / "far.fpk").write_bytes(fpk.read_bytes())
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="nobody", base_repository=f"{lab.url}/far.fpk")
    with pytest.raises(PolicyRefusedError, match="Downloads from a URL are off"):
        pull(added, "tuned")
    assert models(added) == []
    monkeypatch.setenv("PANTRY_URL_DOWNLOADS", "1")
    assert pull(added, "tuned").model == ModelName("tuned")
    assert models(added) == ["far", "tuned"]
    assert content(added, "tuned") == MODELS[1]


@pytest.mark.parametrize("allowed", ["0", "1"])
def test_where_one_place_fails_the_next_is_asked(
    added: Paths, lab: Lab, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    monkeypatch.setenv("PANTRY_URL_DOWNLOADS", allowed)
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox", base_repository=f"{lab.url}/gone.fpk")
    _, steps = pulled(added, "tuned")
    assert any("no base from" in words and "gone.fpk" in words for _, words in steps)
    assert content(added, "tuned") == MODELS[1]


def test_a_base_is_looked_for_in_a_few_places_only(added: Paths, lab: Lab) -> None:
    """A stranger wrote the list."""
    lab.delta("tuned", MODELS[0], MODELS[1], publish=False)
    room = lab.folder / "many"
    made = make_delta(added, *(str(lab.folder / "make-tuned" / p) for p in ("base", "tuned")), room)  # type: ignore[arg-type]
    table = made.report.manifest.delta
    assert table is not None
    bases = tuple(table.bases[0].model_copy(update={"name": f"nobody-{number}"}) for number in range(20))
    named = {"name": "many", "delta": table.model_copy(update={"bases": bases})}
    write_manifest(made.report.manifest.model_copy(update=named), room)
    pack(room, lab.folder / "many.fpk")
    lab.published.publish(sign(lab.folder / "many.fpk", [SIGNER]))
    steps: list[str] = []
    with pytest.raises(NotFoundError):
        pull(added, "many", say=lambda step, words: steps.append(words))
    assert sum(words.startswith("no base from") for words in steps) == MAX_PLACES


def test_what_is_missing_below_a_chain_is_named_by_the_pull_that_needs_it(added: Paths, lab: Lab) -> None:
    lab.delta("one", MODELS[0], MODELS[1], base_name="nobody")
    lab.delta("two", MODELS[1], MODELS[2], base_name="one")
    with pytest.raises(NotFoundError) as caught:
        pull(added, "two")
    assert caught.value.hint is not None
    assert "pantry pull one --base FILE" in caught.value.hint


def test_a_folder_with_a_model_in_parts_is_a_base(added: Paths, lab: Lab, tmp_path: Path) -> None:
    for what in ("base", "tuned"):
        (tmp_path / what).mkdir()
        parts = split_model(tmp_path / what, "Fox-Q8_0")
    parts[1].write_bytes(parts[1].read_bytes()[:-3] + b"new")
    lab.delta("tuned", tmp_path / "base", tmp_path / "tuned", base_name="nobody")
    assert pull(added, "tuned", Options(base=str(tmp_path / "base"))).model == ModelName("tuned")
    with Store.open(added) as store:
        add_model(store, tmp_path / "base" / parts[0].name, ModelName("whole"))
        remove_model(added, "tuned")
    _, steps = pulled(added, "tuned")
    assert steps[-4] == ("base found", "whole: the same weights in other files")


def test_a_base_of_that_name_with_other_files_is_refused(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[2], MODELS[1], base_name="fox")
    with pytest.raises(VerificationError, match=r"fox 1.0.0 is not the base that tuned was made for"):
        pull(added, "tuned")
    assert models(added) == ["fox"]
    assert not list(added.partial.glob("unbox-*"))


def test_terms_of_a_base_are_shown_and_must_be_accepted_before_it_is_fetched(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox", base_terms="Only for\x1b foxes.")
    lab.server.requests.clear()
    with pytest.raises(TermsError, match=r"accept its terms: Only for  foxes\.") as caught:
        pull(added, "tuned")
    assert "--accept-terms" in (caught.value.hint or "")
    assert not [path for path in lab.server.paths() if "targets/fox" in path]
    assert models(added) == []
    heard: list[str] = []
    pulled(added, "tuned", accept=lambda terms: not heard.append(terms))  # type: ignore[func-returns-value]
    assert heard == ["Only for  foxes."]
    assert content(added, "tuned") == MODELS[1]


@pytest.mark.parametrize("mode", ["warn", "off", "enforce"])
def test_a_delta_that_nobody_trusted_signed_is_refused_in_every_mode(added: Paths, lab: Lab, mode: str) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], key=new_key("p256"), base_name="fox")
    trusted = added.config / "trust.toml"
    trusted.write_text(f'mode = "{mode}"\n' + "\n".join(trusted.read_text().splitlines()[1:]))
    with pytest.raises(VerificationError, match="not known here"):
        pull(added, "tuned")
    assert models(added) == []


def test_a_tampered_delta_is_refused(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox")
    (file,) = (lab.published.folder / "targets" / "tuned").glob("*.fpk")
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    with pytest.raises(VerificationError):
        pull(added, "tuned")
    assert models(added) == []


def test_a_chain_is_pulled_step_by_step(added: Paths, lab: Lab) -> None:
    lab.delta("one", MODELS[0], MODELS[1], base_name="fox", base_licence="MIT")
    lab.delta("two", MODELS[1], MODELS[2], base_name="one", licence="CC-BY-4.0")
    _, steps = pulled(added, "two")
    assert [words.partition(":")[0] for step, words in steps if step == "base found"] == ["fox", "one"]
    assert content(added, "two") == MODELS[2]
    assert content(added, "one") == MODELS[1]
    with Store.open(added) as store:
        assert store.get(ModelName("two")).facts["licence"] == "MIT AND Apache-2.0 AND CC-BY-4.0"


def test_deltas_that_stand_on_each_other_end(added: Paths, lab: Lab) -> None:
    lab.delta("one", MODELS[0], MODELS[1], base_name="two")
    lab.delta("two", MODELS[1], MODELS[2], base_name="one")
    with pytest.raises(BadFileError, match="the delta itself"):
        pull(added, "one")
    assert models(added) == []


def test_the_licence_of_the_base_is_joined_and_judged(added: Paths, lab: Lab, tmp_path: Path) -> None:
    lab.published.publish(make_flatpack(tmp_path / "work", "nc", content=MODELS[2], licence="CC-BY-NC-4.0"))
    lab.delta("tuned", MODELS[2], MODELS[1], base_name="nc")
    (added.config / "policy.toml").write_text('mode = "enforce"\nrequired_use = ["commercial"]\n')
    with pytest.raises(PolicyRefusedError):
        pull(added, "tuned")
    (added.config / "policy.toml").unlink()
    pull(added, "tuned")
    with Store.open(added) as store:
        assert store.get(ModelName("tuned")).facts["licence"] == "CC-BY-NC-4.0 AND Apache-2.0"


def test_a_damaged_result_is_mended_by_another_pull(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox")
    pull(added, "tuned")
    with Store.open(added) as store:
        path = store.blobs.path(store.get(ModelName("tuned")).digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    (damage,) = verify_everything(added)
    assert "tuned" in damage.users
    assert not pull(added, "tuned").up_to_date
    assert verify_everything(added) == []
    assert content(added, "tuned") == MODELS[1]


def test_the_result_does_not_need_its_base_any_more(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox")
    pull(added, "tuned")
    remove_model(added, "fox")
    collect_garbage(added, everything=True)
    assert pull(added, "tuned").up_to_date
    assert content(added, "tuned") == MODELS[1]


def test_a_damaged_base_is_fetched_again(added: Paths, lab: Lab) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox")
    pull(added, "fox")
    with Store.open(added) as store:
        path = store.blobs.path(store.get(ModelName("fox")).digest)
    path.chmod(0o644)
    path.write_bytes(b"!" + path.read_bytes()[1:])
    pull(added, "tuned")
    assert verify_everything(added) == []


def test_a_disk_too_small_is_told_before_the_base_is_fetched(
    added: Paths, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox")
    monkeypatch.setattr(apply_module, "SPARE_SPACE", 1 << 60)
    with pytest.raises(StorageError, match="are needed"):
        pull(added, "tuned")
    assert models(added) == []
    assert not list(added.partial.glob("unbox-*"))


def test_pickles_a_delta_builds_are_refused(added: Paths, lab: Lab, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    tree = {"model.gguf": MODELS[1], "weights.pt": pickle.dumps(Evil())}
    base = write_folder(tmp_path / "plain", {"model.gguf": MODELS[0]})
    lab.delta("tuned", base, write_folder(tmp_path / "evil", tree), base_name="fox")
    with pytest.raises(PolicyRefusedError, match=r"weights\.pt"):
        pull(added, "tuned")
    assert models(added) == ["fox"]


SCRIPT = """
import sys, time
from pantry.core.paths import find_paths
from pantry.operations.pull import pull
def progress(done, total):
    if rebuilding and done > total / 2:
        print("half", flush=True)
        time.sleep(60)
rebuilding = []
def say(step, words):
    if step == "rebuilding":
        rebuilding.append(1)
pull(find_paths(), "tuned", say=say, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_rebuild_is_taken_up(added: Paths, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"blk.{n}.weight": ("bf16", (1000, 1000), bf16(normal(n, 1000, 1000))) for n in range(8)}
    tuned = {name: (kind, shape, bf16(normal(n, 1000, 1000) + 0.001)) for n, (name, (kind, shape, _)) in
             enumerate(many.items())}  # fmt: skip
    lab.published.publish(make_flatpack(lab.folder / "work", "large", content=gguf(many)))
    lab.delta("tuned", gguf(many), gguf(tuned), base_name="large")
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert models(added) == ["large"]
    (left,) = [path for path in added.partial.glob("unbox-work-*") if path.is_dir()]
    assert list(left.rglob("model.gguf"))
    sent, seen = lab.server.sent, []
    steps: list[str] = []
    pull(added, "tuned", say=lambda step, _: steps.append(step),
         progress=lambda done, total: seen.append(done / total) if "rebuilding" in steps else None)  # fmt: skip
    assert seen[0] > 0.3, "what was built is taken up"
    assert lab.server.sent - sent < 100_000, "nothing is fetched again"
    assert content(added, "tuned") == gguf(tuned)
    assert left_behind(added) == []


def test_a_delta_given_by_hand_is_as_the_mode_says(paths: Paths, lab: Lab, tmp_path: Path) -> None:
    fpk = lab.delta("tuned", MODELS[0], MODELS[1], key=None, publish=False)
    (tmp_path / "base.gguf").write_bytes(MODELS[0])
    with Store.open(paths) as store:
        add_model(store, tmp_path / "base.gguf", ModelName("base"))
    with pytest.raises(PantryError, match="not signed"):
        pull(paths, str(fpk))
    paths.config.mkdir(parents=True, exist_ok=True)
    (paths.config / "trust.toml").write_text('mode = "warn"\n')
    assert pull(paths, str(fpk)).model == ModelName("tuned")
    assert content(paths, "tuned") == MODELS[1]


def test_a_delta_made_on_a_pulled_model_says_where_that_can_be_had(
    added: Paths, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody needs to type name, place and licence of a base that came from a repository."""
    from pantry.cli._app import run

    pull(added, "fox")
    (tmp_path / "tuned.gguf").write_bytes(MODELS[1])
    made = make_delta(added, "fox", str(tmp_path / "tuned.gguf"), tmp_path / "t.fpk", facts=DeltaFacts(name="tuned"))
    assert made.report.manifest.delta is not None
    (base,) = made.report.manifest.delta.bases
    assert (base.name, base.repository) == ("fox:1.0.0", f"{lab.url}/")
    assert (made.report.base_terms.licence, made.report.manifest.licence.weights) == ("MIT", "MIT")
    lab.published.publish(sign(tmp_path / "t.fpk", [SIGNER]))
    remove_model(added, "fox")
    pull(added, "tuned")
    assert content(added, "tuned") == MODELS[1]
    capsys.readouterr()
    assert not run(["list"])
    assert "fox:1.0.0 (" in capsys.readouterr().out
    assert not run(["show", "tuned"])
    assert "built from" in capsys.readouterr().out


def test_terms_are_refused_or_accepted_as_typed(added: Paths, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    from pantry.cli._app import run

    lab.delta("tuned", MODELS[0], MODELS[1], base_name="fox", base_terms="Only for foxes.")
    assert run(["pull", "tuned"]) == 5
    shown = capsys.readouterr().err
    assert "Only for foxes." in shown
    assert "--accept-terms" in shown
    assert not run(["pull", "tuned", "--accept-terms"])
    assert "tuned 1.0.0 is installed." in capsys.readouterr().out


def test_a_model_that_is_rebuilt_in_parts_becomes_one(added: Paths, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    parts = split_model(tmp_path / "parts", "Fox-Q8_0")
    base = write_folder(tmp_path / "plain", {"model.gguf": MODELS[0]})
    lab.delta("tuned", base, parts[0].parent, base_name="fox")
    result = pull(added, "tuned")
    assert result.model == ModelName("tuned")
    assert pull(added, "tuned").up_to_date
    with Store.open(added) as store:
        assert [f.path for f in Packages(store).files(result.package)] == ["Fox-Q8_0.gguf", "flatpack.toml"]
