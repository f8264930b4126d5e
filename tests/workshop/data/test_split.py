"""Documents are split by their content: nothing is lost, and nothing is on both sides."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pantry.workshop.data.documents import Document, Turn
from pantry.workshop.data.split import Split

texts = st.lists(st.text(max_size=30).map(lambda text: (Turn("text", text or "x"),)), max_size=30)
shares = st.floats(0.01, 0.5)


@given(documents=texts, share=shares)
def test_equal_documents_are_never_on_both_sides_whatever_their_order(documents: list[Document], share: float) -> None:
    split = Split(share)
    training, held_out = list(split.training(documents * 2)), list(split.held_out(documents * 2))
    assert not set(training) & set(held_out)
    assert Counter(training + held_out) == Counter(documents * 2)
    assert set(split.held_out(reversed(documents))) == set(held_out)


@given(documents=texts, share=shares)
def test_few_texts_are_cut_and_the_two_parts_are_the_whole(documents: list[Document], share: float) -> None:
    split = Split.of(share, 19)
    for document in documents:
        parts = [*split.training([document]), *split.held_out([document])]
        assert "".join(part[0].text for part in parts) == document[0].text


def test_a_conversation_is_never_cut() -> None:
    conversation = (Turn("user", "Hi\nyou"), Turn("assistant", "Hello\nthere"))
    split = Split.of(0.5, 1)
    assert [*split.training([conversation]), *split.held_out([conversation])] == [conversation]


def test_the_share_is_about_what_was_asked_for() -> None:
    documents = [(Turn("text", f"document {number}"),) for number in range(5000)]
    assert 400 <= len(list(Split.of(0.1, 5000).held_out(documents))) <= 600


def test_the_split_of_a_text_stays_as_it_was_in_earlier_versions() -> None:
    documents = [(Turn("text", f"document {number}"),) for number in range(60)]
    assert [int(document[0].text[9:]) for document in Split(0.1).held_out(documents)] == [14, 17, 23, 36, 37]
