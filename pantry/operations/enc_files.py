"""The `.enc` files of point-alpaca as use-cases: whole folders, checked against lists of checksums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pantry.core.errors import NotFoundError
from pantry.workshop import enc
from pantry.workshop.checksums import ChecksumList
from pantry.workshop.enc import Progress


def encrypt_files(
    target: Path, key: Path, folder: Path, *, md5: bool = True, progress: Progress | None = None
) -> list[enc.Written]:
    """Write `.enc` files for `target`, a file or every file directly in a folder. Raises as `enc.encrypt`."""
    return [enc.encrypt(file, key, folder, md5=md5, progress=progress) for file in _files_in(target)]


def decrypt_files(
    encrypted: Sequence[Path],
    key: Path,
    folder: Path,
    *,
    checksums: Path | None = None,
    md5: bool = True,
    progress: Progress | None = None,
) -> list[enc.Written]:
    """Rebuild plain files from `.enc` files and folders of them; files already there and right are left.

    With `checksums`, a list of md5 or sha256 sums or addresses, listed files must all be there, and sums are checked
    before and after. Without `md5`, MD5 is left out where the list does not need it; it is the slowest part.
    Raises NotFoundError, BadFileError, VerificationError, ConflictError; the file at fault is not
    written, earlier ones stay.
    """
    files = [file for path in encrypted for file in _files_in(path, "*.enc")]
    wanted = ChecksumList.read(checksums) if checksums else ChecksumList()
    if missing := wanted.missing({file.name for file in files}):
        raise NotFoundError(f"Listed, but not there: {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}.")
    md5 = md5 or wanted.needs_md5
    written = []
    for file in files:
        if wanted.names.get(file.name):
            wanted.check(enc.checksums_of(file))
        name = enc.EncName.parse(file.name)
        result = enc.already_there(folder / name.plain, name.digest, md5=md5)
        result = result or enc.decrypt(file, key, folder, md5=md5, progress=progress)
        wanted.check(result)
        written.append(result)
    return written


def _files_in(path: Path, pattern: str = "*") -> list[Path]:
    """The file itself, or the plain files directly in a folder that match the pattern, sorted."""
    if path.is_dir():
        found = sorted(file for file in path.glob(pattern) if file.is_file() and not file.name.startswith("."))
        if not found:
            raise NotFoundError(f"The folder {path} holds no files like {pattern}.")
        return found
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.")
    return [path]
