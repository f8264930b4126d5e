"""Pack and sign the model that ships: `python -m examples.starter.pack --gguf FILE --key KEY.pem`.

The same model, cards and version give the same bytes up to the signature. Without `--gguf` the model that ships now is
packed again, which is how a release is signed with its own key. Without `--key` a key is made for this once: its public
half ships beside the flatpack, its private half is written nowhere.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from pantry.flatpack.archive.archive import Packed, Reader, pack
from pantry.flatpack.manifest import Licences, Manifest, ModelFacts, write_manifest
from pantry.flatpack.signing.keys import PrivateKey, load_private_key, new_key
from pantry.flatpack.signing.signature import sign
from pantry.formats.gguf import read_header
from pantry.starter import CARD, FLATPACK, MODEL, NAME, SIGNER

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "pantry" / "starter"
VERSION = "1.0.0"
LEVEL = 19  # of zstd: it is packed once and travels often


def manifest_of(gguf: Path) -> Manifest:
    """The manifest of the model in `gguf`, with the figures of its header."""
    header = read_header(gguf)
    facts = ModelFacts(
        architecture=header.architecture,
        parameters=header.parameters,
        context=header.context_length,
        quantisation=header.quantisation,
        tags=("CONVERSATIONAL",),
        file=MODEL,
    )
    return Manifest(
        kind="model",
        name=NAME,
        version=VERSION,
        summary="A very small language model, so that the first answer needs no download.",
        authors=("Pantry contributors",),
        licence=Licences(weights="CC0-1.0", data="CC0-1.0"),
        model=facts,
    )


def pack_starter(gguf: Path, card: Path, out: Path) -> Packed:
    """Pack the model and its cards into the unsigned flatpack `out`."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shutil.copyfile(gguf, folder / MODEL)
        shutil.copyfile(card, folder / CARD)
        shutil.copyfile(HERE / "DATASET.md", folder / "DATASET.md")
        write_manifest(manifest_of(gguf), folder)
        return pack(folder, out, level=LEVEL)


def ship(gguf: Path | None, key: PrivateKey, folder: Path = SHIPPED) -> Packed:
    """Pack, sign, and put the flatpack and the public half of its key into `folder`."""
    with tempfile.TemporaryDirectory() as made:
        if gguf is None:
            with Reader(folder / FLATPACK) as reader:
                reader.unbox(Path(made, "now"), only=MODEL)
            gguf = Path(made, "now", MODEL)
        packed = pack_starter(gguf, folder / CARD, Path(made, FLATPACK))
        sign(packed.path, [key], folder / FLATPACK)
    (folder / SIGNER).write_bytes(key.public.pem)
    return packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="the model; without it the one that ships now")
    parser.add_argument("--key", type=Path, help="private key as PEM, not locked; without it one for this once")
    options = parser.parse_args()
    key = load_private_key(options.key.read_bytes(), None, str(options.key)) if options.key else new_key("p256")
    packed = ship(options.gguf, key)
    print(f"{SHIPPED / FLATPACK}: {packed.manifest.name} {packed.manifest.version}, contents {packed.contents}")
    print(f"{SHIPPED / SIGNER}: {key.public.hint}")


if __name__ == "__main__":
    main()
