"""Small signed flatpacks and repositories for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantry.core.paths import Paths
from pantry.flatpack.archive.archive import pack
from pantry.flatpack.manifest import Licences, Manifest, ModelFacts, Provenance, write_manifest
from pantry.flatpack.signing.keys import PrivateKey, new_key
from pantry.flatpack.signing.signature import sign
from pantry.flatpack.signing.trust import Rule, TrustFile, trusted_folder, write_trust_file
from pantry.repository.publish import publish
from pantry.repository.root_change import create
from tests.gguf_files import GGUFBuilder, value

SIGNER = new_key("p256")


def gguf(title: str) -> bytes:
    """A small valid GGUF file, another one for each title."""
    builder = GGUFBuilder()
    builder.metadata["general.name"] = value(8, title)
    return builder.build()


def make_flatpack(
    folder: Path,
    name: str = "fox",
    version: str = "1.0.0",
    *,
    key: PrivateKey | None = SIGNER,
    content: bytes | None = None,
    licence: str = "Apache-2.0",
    extra: dict[str, bytes] | None = None,
    facts: dict[str, Any] | None = None,
) -> Path:
    """A flatpack of kind model; signed unless `key` is None."""
    source = folder / f"source-{name.replace('/', '-')}-{version}"
    source.mkdir(parents=True)
    manifest = Manifest(
        kind="model",
        name=name,
        version=version,
        summary=f"A {name} that tells stories.",
        authors=("Ada",),
        licence=Licences(weights=licence),
        model=ModelFacts(**{"tags": ("stories",), "parameters": 1000, "context": 128} | (facts or {})),
        provenance=Provenance(data_unknown="The weights are noise."),
    )
    write_manifest(manifest, source)
    weights = content if content is not None else gguf(f"{name} {version}")
    (source / "model.gguf").write_bytes(weights)
    for path, data in (extra or {}).items():
        (source / path).write_bytes(data)
    out = folder / f"{name.replace('/', '-')}-{version}.fpk"
    pack(source, out)
    if key is not None:
        sign(out, [key])
    return out


def trust_signer(paths: Paths, key: PrivateKey = SIGNER, pattern: str = "*", **rule: Any) -> None:
    """Let this home trust the key for names of that pattern."""
    trusted_folder(paths).mkdir(parents=True, exist_ok=True, mode=0o700)
    (trusted_folder(paths) / f"{key.public.id}.pem").write_bytes(key.public.pem)
    rules = (Rule(name="Ada", pattern=pattern, keys=(key.public.id,), **rule),)
    write_trust_file(paths, TrustFile(trust=rules))


@dataclass
class Published:
    """A repository on disk with its keys."""

    folder: Path
    root_key: PrivateKey = field(default_factory=lambda: new_key("p256"))
    online_key: PrivateKey = field(default_factory=lambda: new_key("p256"))

    @property
    def keys(self) -> list[PrivateKey]:
        return [self.root_key, self.online_key]

    def create(self) -> Published:
        create(self.folder, [self.root_key.public], self.online_key.public, self.keys)
        return self

    def publish(self, *files: Path) -> None:
        publish(self.folder, list(files), self.keys)

    @property
    def root(self) -> bytes:
        return (self.folder / "metadata" / "1.root.json").read_bytes()
