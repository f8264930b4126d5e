"""Dataset cards as on Hugging Face: a README.md with YAML front matter (written here, and read where PyYAML is there).

Format: https://huggingface.co/docs/hub/datasets-cards and the template of huggingface_hub (`datasetcard_template.md`).
"""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from pantry.core.errors import BadFileError, MissingExtraError
from pantry.flatpack.cards.card_text import Section, bracketed, split_sections
from pantry.flatpack.cards.dataset_card import CARD_LIMIT, Card, CardField

_MODALITIES = ("text", "image", "audio", "video", "tabular", "timeseries")
_FRONT_LIMIT = 64 << 10
"""Largest front matter read, in bytes."""
_CONTACT_LIMIT = 500
_NOT_GIVEN = "[More Information Needed]"


def to_hf_card(card: Card) -> str:
    """The card as a README.md for the hub. The values of the front matter are JSON, which YAML reads."""
    front: dict[str, Any] = {
        "pretty_name": card.name,
        "license": card.licence.lower() if re.fullmatch(r"[A-Za-z0-9.+-]+", card.licence) else "other",
        "tags": [word for word in _MODALITIES if word in card.data_type.lower()],
        "dataset_info": {
            "features": [{"name": item.name, "dtype": item.type} for item in card.fields],
        },
    }
    if front["license"] == "other":
        front["license_name"] = card.licence
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()), "---", ""]
    sections = [
        (f"# Dataset Card for {card.name}", card.description),
        ("## Dataset Details", ""),
        ("### Dataset Description", _description(card)),
        ("## Uses", ""),
        ("### Direct Use", _bullets(card.usage)),
        ("## Dataset Structure", _structure(card)),
        ("## Dataset Creation", ""),
        ("### Source Data", f"{card.source}\n\nCollected: {card.collected}"),
        ("#### Data Collection and Processing", _bullets(card.preprocessing)),
        ("## Acknowledgments", card.acknowledgements),
        ("## Dataset Card Contact", f"{card.contact_name} <{card.contact_email}>, {card.contact_affiliation}"),
    ]
    for heading, text in sections:
        lines += [heading, "", *([text, ""] if text else [])]
    return "\n".join(lines)


def _description(card: Card) -> str:
    return (
        f"- **Curated by:** {card.contributors}\n- **License:** {card.licence}\n- **Version:** {card.version}\n"
        f"- **Data type:** {card.data_type}\n- **Format:** {card.format}"
    )


def _structure(card: Card) -> str:
    target = (
        [f"- **{card.target.name}** ({card.target.type}, target): {card.target.description}"] if card.target else []
    )
    fields = [f"- **{item.name}** ({item.type}): {item.description}" for item in card.fields]
    sample = json.dumps(list(card.sample), indent=2, ensure_ascii=False)
    return "\n".join([*fields, *target, "", "```json", sample, "```"])


def _bullets(items: tuple[str, ...]) -> str:
    return "\n".join(f"- {item}" for item in items)


def from_hf_card(content: bytes) -> Card:
    """What a hub README.md tells, as a card; what it does not tell stays empty and is for the user to fill in.

    Raises BadFileError for what is not a card, and MissingExtraError where PyYAML is not installed.
    """
    if len(content) > CARD_LIMIT:
        raise BadFileError(f"The card has {len(content)} bytes; at most {CARD_LIMIT} are read.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFileError(f"The card is not UTF-8 at byte {error.start}.") from None
    front, body = _split(text)
    sections = split_sections(body)
    labels = {
        label.lower(): value
        for section in sections.values()
        for _, label, value in section.labels
        if value and not bracketed(value)
    }
    contact = _prose(sections, "dataset card contact")[:_CONTACT_LIMIT]
    email = re.search(r"<([^<>]+)>|([\w.+-]+@[\w-]+\.[\w.-]+)", contact)
    return Card(
        name=_scalar(front.get("pretty_name")) or _title(body),
        version=labels.get("version", ""),
        description=_summary(sections),
        source=_source(sections),
        contributors=labels.get("curated by", ""),
        licence=_licence(front, labels),
        collected=_after(_prose(sections, "source data"), "Collected:"),
        data_type=labels.get("data type") or ", ".join(_modalities(front)),
        format=labels.get("format", ""),
        fields=_fields(front, sections.get("dataset structure")),
        target=_target(sections.get("dataset structure")),
        preprocessing=_list(sections, "data collection and processing"),
        sample=_sample(sections.get("dataset structure")),
        usage=_list(sections, "direct use"),
        acknowledgements=_prose(sections, "acknowledgments"),
        contact_name=contact.partition("<")[0].strip(" ,") if contact else "",
        contact_email=(email[1] or email[2]) if email else "",
        contact_affiliation=contact.rpartition(">,")[2].strip() if ">," in contact else "",
    )


def _split(text: str) -> tuple[dict[str, Any], str]:
    """The front matter and the Markdown after it."""
    match = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
    if not match:
        return {}, text
    if len(match[1]) > _FRONT_LIMIT:
        raise BadFileError(f"The card's front matter is longer than {_FRONT_LIMIT} characters.")
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingExtraError("Reading Hugging Face cards", "cards") from None
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadFileError(f"The card's front matter is not valid YAML: {error}") from None
    except (AttributeError, LookupError, TypeError, ArithmeticError):  # PyYAML's own, like for `!!timestamp x`
        raise BadFileError("The card's front matter is not valid YAML: a value is not of the type it names.") from None
    if front is not None and not isinstance(front, dict):
        raise BadFileError("The card's front matter is not a table of names and values.")
    return front or {}, text[match.end() :]


def _title(body: str) -> str:
    found = re.search(r"^#\s+(?:Dataset Card for\s+)?(.+)$", body, re.MULTILINE)
    return found[1].strip() if found and not bracketed(found[1]) else ""


def _prose(sections: dict[str, Section], title: str) -> str:
    section = sections.get(title)
    text = _without_comments(section.text()).strip() if section else ""
    return "" if _NOT_GIVEN in text else text


def _without_comments(text: str) -> str:
    """The text without `<!-- … -->`; the standard library's pattern matching would take the square of the time."""
    kept, start = [], 0
    while (begin := text.find("<!--", start)) >= 0:
        kept.append(text[start:begin])
        end = text.find("-->", begin)
        start = end + 3 if end >= 0 else len(text)
    return "".join(kept) + text[start:]


def _scalar(value: object) -> str:
    """A YAML value as text, if it is one: lists that hold themselves many times over have no use here."""
    try:
        return str(value) if isinstance(value, str | int | float | datetime.date) else ""
    except ValueError:  # a number of thousands of digits
        return ""


def _summary(sections: dict[str, Section]) -> str:
    for title in (*(title for title in sections if title.startswith("dataset card for")), "dataset description"):
        plain = [line for line in _prose(sections, title).splitlines() if line and not line.startswith("- **")]
        if plain:
            return " ".join(plain)
    return ""


def _source(sections: dict[str, Section]) -> str:
    return _prose(sections, "source data").partition("Collected:")[0].strip()


def _after(text: str, label: str) -> str:
    return text.partition(label)[2].partition("\n")[0].strip()


def _licence(front: dict[str, Any], labels: dict[str, str]) -> str:
    listed = front.get("license")
    listed = " AND ".join(map(_scalar, listed)) if isinstance(listed, list) else _scalar(listed)
    if listed in ("", "other", "unknown"):
        return _scalar(front.get("license_name")) or labels.get("license", "")
    return labels["license"] if labels.get("license", "").lower() == listed.lower() else listed


def _modalities(front: dict[str, Any]) -> list[str]:
    tags = front.get("tags")
    return [tag for tag in tags if tag in _MODALITIES] if isinstance(tags, list) else []


def _fields(front: dict[str, Any], structure: Section | None) -> tuple[CardField, ...]:
    described = {name: text for name, _, text in _described(structure)}
    info = front.get("dataset_info")
    info = info[0] if isinstance(info, list) and info else info
    features = info.get("features") if isinstance(info, dict) else None
    if isinstance(features, list) and features:
        items = [item for item in features if isinstance(item, dict) and item.get("name")]
        return tuple(
            CardField(name, _scalar(item.get("dtype")) or "structure", described.get(name, ""))
            for item in items
            if (name := _scalar(item["name"]))
        )
    return tuple(CardField(name, kind, text) for name, kind, text in _described(structure) if ", target" not in kind)


def _target(structure: Section | None) -> CardField | None:
    found = (item for item in _described(structure) if item[1].endswith(", target"))
    return next((CardField(name, kind.removesuffix(", target"), text) for name, kind, text in found), None)


def _described(structure: Section | None) -> list[tuple[str, str, str]]:
    """Lines like `- **name** (type): description`."""
    text = structure.text() if structure else ""
    return re.findall(r"^- \*\*([^*\n]+)\*\* \(([^()\n]+)\): ?(.*)$", text, re.MULTILINE)


def _list(sections: dict[str, Section], title: str) -> tuple[str, ...]:
    section = sections.get(title)
    items = tuple(text for _, text in section.items() if not bracketed(text)) if section else ()
    return items or tuple(filter(None, [" ".join(_prose(sections, title).split())]))


def _sample(structure: Section | None) -> tuple[Any, ...]:
    if structure is None:
        return ()
    try:
        records = json.loads(structure.code()[1])
    except (ValueError, RecursionError):
        return ()
    return tuple(records) if isinstance(records, list) else (records,)
