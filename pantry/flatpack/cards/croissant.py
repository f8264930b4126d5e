"""Dataset cards in the Croissant vocabulary of MLCommons, version 1.0: JSON-LD on top of schema.org.

Specification: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from typing import Any

from pantry.flatpack.cards.dataset_card import Card, CardField
from pantry.flatpack.statement import Entry

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "samplingRate": "cr:samplingRate",
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {
    "int": "sc:Integer",
    "bool": "sc:Boolean",
    "float": "sc:Float",
    "double": "sc:Float",
    "number": "sc:Float",
    "continuous": "sc:Float",
    "date": "sc:Date",
    "url": "sc:URL",
    "image": "sc:ImageObject",
}
_MEDIA_TYPES = {"jsonl": "application/jsonlines", "parquet": "application/x-parquet", "md": "text/markdown"}
_COLUMNS = ("text/csv", "text/tab-separated-values", "application/jsonlines", "application/x-parquet")
"""Media types whose columns a field can be taken from."""


def to_croissant(card: Card, files: Sequence[Entry] = ()) -> dict[str, Any]:
    """The card as a Croissant document. `files` are the data files it describes, with digests."""
    objects = [_file_object(entry) for entry in files]
    tables = [item for item in objects if item["encodingFormat"] in _COLUMNS]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": card.name,
        "description": card.description,
        "version": card.version,
        "license": _licence(card.licence),
        "url": _first_address(card.source),
        "isBasedOn": card.source,
        "creator": {
            "@type": "sc:Organization" if card.contact_affiliation == card.contributors else "sc:Person",
            "name": card.contributors,
        },
        "temporalCoverage": card.collected,
        "rai:dataPreprocessingProtocol": list(card.preprocessing),
        "rai:dataUseCases": list(card.usage),
        "rai:dataReleaseMaintenancePlan": f"Contact: {card.contact_name} <{card.contact_email}>",
        "distribution": objects,
        "recordSet": _record_sets(card, tables),
    }


def _record_sets(card: Card, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One set of records; its fields come from the first table, or from the sample where there is no table."""
    if not card.fields:
        return []
    target = [card.target] if card.target and card.target.name not in {item.name for item in card.fields} else []
    columns = [*card.fields, *target]
    records: dict[str, Any] = {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "field": [_field(column, tables[0]["@id"] if tables else None) for column in columns],
    }
    if not tables and card.sample:
        names = {column.name for column in columns}
        records["data"] = [
            {f"records/{name}": value for name, value in record.items() if name in names}
            for record in card.sample
            if isinstance(record, dict)
        ]
    return [records]


def _field(column: CardField, table: str | None) -> dict[str, Any]:
    source = {"source": {"fileObject": {"@id": table}, "extract": {"column": column.name}}} if table else {}
    return {
        "@type": "cr:Field",
        "@id": f"records/{column.name}",
        "name": column.name,
        "description": column.description,
        "dataType": _data_type(column.type),
        **source,
    }


def _data_type(text: str) -> str:
    lowered = text.lower()
    return next((kind for word, kind in _TYPES.items() if word in lowered), "sc:Text")


def _file_object(entry: Entry) -> dict[str, Any]:
    suffix = entry.path.rpartition(".")[2].lower()
    media = _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(entry.path)[0] or "application/octet-stream"
    return {
        "@type": "cr:FileObject",
        "@id": entry.path,
        "name": entry.path,
        "contentUrl": entry.path,
        "contentSize": f"{entry.known_size} B",
        "encodingFormat": media,
        "sha256": entry.digest.hex,
    }


def _licence(text: str) -> str:
    """A licence as an address where SPDX has one."""
    return f"https://spdx.org/licenses/{text}.html" if re.fullmatch(r"[A-Za-z0-9.+-]+", text) else text


def _first_address(text: str) -> str:
    found = re.search(r"https?://[^\s)>\]]+", text)
    return found[0].rstrip(".,") if found else "about:blank"
