from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError
from pantry.flatpack.cards.dataset_card import Card, CardField, check_card, load_card, parse_card, render_card
from pantry.flatpack.cards.huggingface import from_hf_card

CARD = Card(
    name="Tales",
    version="1.0.0",
    description="Short tales for children.",
    source="https://example.org/tales",
    contributors="Ada",
    licence="CC-BY-4.0",
    collected="2026-01",
    data_type="text",
    format="JSONL",
    fields=(CardField("text", "string", "the tale, whole"), CardField("year", "integer", "when it was written")),
    target=CardField("year", "integer", "when it was written"),
    preprocessing=("Removed double tales.", "Cut to 500 words."),
    sample=({"text": "Once", "year": 2026}, {"text": "[sic]", "year": 1}),
    usage=("Train a small model.",),
    acknowledgements="None.",
    contact_name="Ada",
    contact_email="ada@example.org",
    contact_affiliation="none",
)

TEMPLATE_OF_2023 = """\
# TEMPLATE.md

## Dataset Summary

- **Name:** [Dataset Name]
- **Version:** 1.0
- **Description:** Tales

## Metadata

- **Source:** https://example.org
- **Contributors:** Ada
- **License:** MIT
- **Date of Collection:** 2023

## Data Specifics

### General Overview

- **Data Type:** text
- **Format:** CSV

### Data Fields Description

- **[Field 1]:** [Type, Description]
- **title:** string, the title

### Target Variable (If Any)

- **Name:** [Name of the target variable]
- **Type:** number
- **Description:** what

## Preprocessing Steps

Detail any steps taken to preprocess or clean the data.

1. Cleaned
2. [Step 2]

## Sample Records

\\```json
[
{
"title": "x"
},
...
]
\\```

## Recommended Usage

1. Train [with it](https://example.org) and see [1] and [^2]

## Acknowledgments

None

## Contact Information

- **Name:** Ada
- **Email:**
"""


def plain(card: Card) -> Card:
    """The card with a sample that has nothing in brackets."""
    return Card(**{**card.__dict__, "sample": card.sample[:1]})


def test_a_full_card_survives_writing_and_reading() -> None:
    assert load_card(render_card(plain(CARD)).encode()) == plain(CARD)


def test_the_empty_card_names_every_field() -> None:
    faults = check_card(render_card().encode())
    assert len(faults) == 17
    lines = render_card().splitlines()
    for fault in faults:
        assert "[" in lines[fault.line - 1], fault


def test_the_template_of_2023_is_read_and_its_gaps_are_named_by_line() -> None:
    card, faults = parse_card(TEMPLATE_OF_2023.encode())
    assert (card.licence, card.fields) == ("MIT", (CardField("title", "string", "the title"),))
    assert [(fault.line, fault.message) for fault in faults] == [
        (5, "'Name' of 'Dataset Summary' is still [Dataset Name]."),
        (25, "a field is still [Field 1]."),
        (30, "'Name' of 'Target Variable (If Any)' is still [Name of the target variable]."),
        (39, "a step of 'Preprocessing Steps' is still [Step 2]."),
        (
            48,
            "the sample records are not JSON: Expecting value; write them "
            'like [{"text": "Once upon a time there was a fox."}] between ```json and ```.',
        ),
        (60, "'Affiliation' is missing in 'Contact Information'."),
        (63, "'Email' of 'Contact Information' is empty."),
    ]


@pytest.mark.parametrize(
    "title",
    [
        "Dataset Summary",
        "Metadata",
        "Data Specifics",
        "General Overview",
        "Data Fields Description",
        "Preprocessing Steps",
        "Sample Records",
        "Recommended Usage",
        "Acknowledgments",
        "Contact Information",
    ],
)
def test_a_missing_section_is_named(title: str) -> None:
    text = render_card(plain(CARD)).replace(f"# {title}\n", "# Something Else\n")
    assert any(f"the section {title!r} is missing" in fault.message for fault in check_card(text.encode()))


def test_load_raises_with_every_line() -> None:
    with pytest.raises(BadFileError, match=r"DATASET\.md, line 5"):
        load_card(TEMPLATE_OF_2023.encode())


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(BadFileError, match="UTF-8 at byte 0"):
        check_card(b"\xff")
    with pytest.raises(BadFileError, match="at most"):
        check_card(b"x" * (5 << 20))


@pytest.mark.parametrize(
    "content",
    [
        "# " + " " * 1_000_000 + "x",
        "# x " + "# " * 500_000,
        "## Metadata\n- **Source:** x\n" + " y\n" * 300_000,
        "- **" * 250_000,
        "- **" + "a" * 1_000_000,
        "[" * 1_000_000,
        "[a" * 500_000,
        "<!--" * 250_000,
        "## Dataset Structure\n- **a** (x" + "** (x" * 200_000,
        "## Dataset Card Contact\n" + "a" * 1_000_000,
        "```\n" * 250_000,
        "---\n" * 250_000,
    ],
    ids=lambda content: content[:30],
)
def test_no_text_makes_the_readers_hang(content: str) -> None:
    start = time.process_time()
    assert check_card(content.encode())
    with contextlib.suppress(BadFileError):
        from_hf_card(content.encode())
    assert time.process_time() - start < 5


@given(st.binary(max_size=400) | st.text('#*-[]`:\n 1.ab{}"', max_size=400).map(str.encode))
def test_any_bytes_give_faults_or_an_error_and_no_crash(content: bytes) -> None:
    with contextlib.suppress(BadFileError):
        assert check_card(content)
