"""Reads Parquet files row by row: a few rows of the wanted columns are in memory at a time.

Format: https://parquet.apache.org/docs/file-format/, read by pyarrow (in the extra `train`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pantry.core.errors import BadFileError, MissingExtraError
from pantry.workshop.data.documents import CONVERSATION, Document, read_record

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIX = ".parquet"
ROWS = 64
"""Rows decoded at once."""
MAX_FOOTER = 256 << 20
"""Bytes of metadata that are read at most."""
MAX_GROUP = 4 << 30
"""Bytes that a column of a row group may unpack to: what a page holds is unpacked at once."""


def read_parquet(path: Path, name: str, text_field: str) -> Iterator[Document]:
    """The documents in the column `text_field`, or the conversations in `messages`; empty and null texts are none.

    Raises BadFileError with the row, counted from 1; MissingExtraError without pyarrow; OSError from the disk.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingExtraError("Reading Parquet", "train") from None
    row = 0
    try:
        limits = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": MAX_FOOTER}
        with path.open("rb") as source, parquet.ParquetFile(source, pre_buffer=False, **limits) as file:
            column = _column(file, name, text_field)
            for batch in file.iter_batches(ROWS, columns=[column], use_threads=False):
                for value in batch.column(0):
                    row += 1
                    content = value.as_py()
                    if content is not None:
                        yield from read_record({column: content}, text_field, f"{name}, row {row}")
    except (pyarrow.ArrowException, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(name, row, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(name, row, error) from None


def _damaged(name: str, row: int, error: Exception) -> BadFileError:
    first = str(error).partition("\n")[0][:200]
    return BadFileError(f"{name} is not a whole Parquet file of UTF-8 text, after row {row}: {first}")


def _column(file: ParquetFile, name: str, text_field: str) -> str:
    """The column with conversations or texts; a conversation wins, as in JSONL."""
    from pyarrow import types

    schema = file.schema_arrow
    found = [CONVERSATION] if CONVERSATION in schema.names and types.is_list(schema.field(CONVERSATION).type) else []
    found += [text_field] if text_field in schema.names else []
    if not found:
        raise BadFileError(
            f"{name} has no column {text_field!r}; it has {', '.join(map(repr, schema.names))[:200]}.",
            hint='Name the column with the text in the settings: text_field = "..."',
        )
    kind = schema.field(found[0]).type
    if found[0] == text_field and not (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    ):
        raise BadFileError(f"The column {text_field!r} of {name} holds {kind}, not text.")
    _check_sizes(file, name, found[0])
    return found[0]


def _check_sizes(file: ParquetFile, name: str, column: str) -> None:
    about = file.metadata
    for group in range(about.num_row_groups):
        parts = (about.row_group(group).column(at) for at in range(about.num_columns))
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)
        if size > MAX_GROUP:
            raise BadFileError(
                f"{name}: the column {column!r} of row group {group + 1} unpacks to {size} bytes; "
                f"at most {MAX_GROUP} are read.",
                hint="Write the file with smaller row groups.",
            )
