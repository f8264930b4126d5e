from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError
from pantry.core.refs import Digest
from pantry.flatpack.cards.croissant import to_croissant
from pantry.flatpack.cards.dataset_card import Card, CardField, check_card, render_card
from pantry.flatpack.cards.huggingface import from_hf_card, to_hf_card
from pantry.flatpack.statement import Entry
from tests.flatpack.cards.test_dataset_card import CARD

HUB_CARD = b"""\
---
license: cc-by-4.0
pretty_name: Tiny Tales
language:
- en
tags:
- text
dataset_info:
  features:
  - name: text
    dtype: string
  - name: parts
    list: string
---

# Dataset Card for Tiny Tales

<!-- Provide a quick summary of the dataset. -->
Tales of foxes.

## Dataset Details

### Dataset Description

- **Curated by:** Ada
- **License:** CC-BY-4.0

### Direct Use

[More Information Needed]

### Source Data

#### Data Collection and Processing

Collected by hand.

## Dataset Card Contact

Ada <ada@example.org>
"""


class TestHuggingFace:
    def test_round_trip(self) -> None:
        assert from_hf_card(to_hf_card(CARD).encode()) == CARD

    def test_front_matter_is_yaml(self) -> None:
        front = yaml.safe_load(to_hf_card(CARD).split("---")[1])
        assert (front["license"], front["pretty_name"], front["tags"]) == ("cc-by-4.0", "Tales", ["text"])
        assert front["dataset_info"]["features"][1] == {"name": "year", "dtype": "integer"}

    def test_a_licence_the_hub_has_no_tag_for(self) -> None:
        card = Card(licence="Ada's own terms")
        front = yaml.safe_load(to_hf_card(card).split("---")[1])
        assert (front["license"], front["license_name"]) == ("other", "Ada's own terms")
        assert from_hf_card(to_hf_card(card).encode()).licence == "Ada's own terms"

    def test_a_card_of_the_hub(self) -> None:
        card = from_hf_card(HUB_CARD)
        assert (card.name, card.licence, card.contributors) == ("Tiny Tales", "CC-BY-4.0", "Ada")
        assert card.description == "Tales of foxes."
        assert card.fields == (CardField("text", "string", ""), CardField("parts", "structure", ""))
        assert card.preprocessing == ("Collected by hand.",)
        assert (card.contact_name, card.contact_email) == ("Ada", "ada@example.org")
        assert card.usage == ()

    def test_what_the_hub_does_not_tell_is_left_to_fill_in(self) -> None:
        messages = " ".join(fault.message for fault in check_card(render_card(from_hf_card(HUB_CARD)).encode()))
        for missing in ("Version", "Source", "Date of Collection", "Format", "Recommended Usage", "Affiliation"):
            assert missing in messages
        assert "'Name' of 'Dataset Summary'" not in messages

    @pytest.mark.parametrize(
        "content", [b"---\na: [\n---\n", b"---\n- a\n---\n", b"\xff", b"---\n" + b"[" * 5000 + b"\n---\n"]
    )
    def test_bad_front_matter(self, content: bytes) -> None:
        with pytest.raises(BadFileError):
            from_hf_card(content)

    def test_a_list_that_holds_itself_many_times_over(self) -> None:
        bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        for name, inner in zip("bcdefghij", "abcdefghi", strict=True):
            bomb += f"{name}: &{name} [{', '.join([f'*{inner}'] * 10)}]\n"
        front = f"---\n{bomb}pretty_name: *j\nlicense: *j\ndataset_info: {{features: [{{name: *j, dtype: *j}}]}}\n---\n"
        card = from_hf_card(front.encode())
        assert (card.name, card.fields) == ("", ())

    @given(st.binary(max_size=300) | st.text("-: []{}\n#a*&!", max_size=200).map(lambda t: f"---\n{t}\n---\n".encode()))
    def test_any_bytes_give_a_card_or_an_error(self, content: bytes) -> None:
        with contextlib.suppress(BadFileError):
            assert isinstance(from_hf_card(content), Card)


class TestCroissant:
    def test_the_vocabulary(self) -> None:
        file = Entry("data/train.csv", Digest("ab" * 32), 7)
        table = json.loads(json.dumps(to_croissant(CARD, [file])))
        assert table["conformsTo"] == "http://mlcommons.org/croissant/1.0"
        assert (table["@type"], table["name"], table["license"]) == (
            "sc:Dataset",
            "Tales",
            "https://spdx.org/licenses/CC-BY-4.0.html",
        )
        (distribution,) = table["distribution"]
        assert (distribution["sha256"], distribution["encodingFormat"]) == ("ab" * 32, "text/csv")
        text, year = table["recordSet"][0]["field"]
        assert (text["dataType"], year["dataType"]) == ("sc:Text", "sc:Integer")
        assert text["source"] == {"fileObject": {"@id": "data/train.csv"}, "extract": {"column": "text"}}

    def test_without_a_table_the_sample_is_the_data(self) -> None:
        (records,) = to_croissant(CARD)["recordSet"]
        assert records["data"][0] == {"records/text": "Once", "records/year": 2026}
        assert all("source" not in field for field in records["field"])

    def test_without_fields_there_are_no_records(self) -> None:
        assert to_croissant(Card(name="x"))["recordSet"] == []

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_the_reference_library_accepts_it(self) -> None:
        mlcroissant = pytest.importorskip("mlcroissant", reason="the reference library of MLCommons is not installed")
        dataset = mlcroissant.Dataset(to_croissant(CARD))
        assert not dataset.metadata.ctx.issues.errors
        assert next(iter(dataset.records("records")))["records/year"] == 2026


@pytest.mark.parametrize("value", ["!!timestamp x", '!!int ""', "!!bool x", "!!float _", '!!float ""', "!!int _"])
def test_a_value_that_is_not_of_the_type_it_names(value: str) -> None:
    with pytest.raises(BadFileError, match="not valid YAML"):
        from_hf_card(f"---\npretty_name: {value}\n---\n# Tales\n".encode())


def test_a_number_too_long_to_be_a_name() -> None:
    assert from_hf_card(b"---\npretty_name: 0x" + b"f" * 9000 + b"\n---\n# Tales\n").name == "Tales"
