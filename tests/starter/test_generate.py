"""The training text: the same on every machine, grammatical, and silent about what is held out."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.starter.corpus.turn import Turn, bare, is_held_out
from examples.starter.corpus.words import KINDS, SIZES, a, plural
from examples.starter.generate import (
    FAMILIES,
    Document,
    draw,
    encode,
    held_out_memories,
    held_out_turns,
    questions_in,
    training_documents,
    write,
)

ROOT = Path(__file__).parents[2]
WRONG_ARTICLE = re.compile(r"\b(?:a [aeiou]|an [^aeiou\W])\w*", re.IGNORECASE)
FIXED_WORDING = ("pantry", "small_talk", "any_story", "spell")
"""Families with a wording that may also be trained with another greeting; the evaluation sorts those questions out."""
SOUNDS_OTHERWISE = ("an hour", "a unicorn")


@pytest.fixture(scope="module")
def slice_of_text() -> list[Document]:
    return list(training_documents(seed=7, limit=1_500_000))


def spoken(documents: list[Document], role: str) -> list[str]:
    return [text for document in documents for speaker, text in document if speaker == role]


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_same_seed_writes_the_same_bytes_in_any_process(tmp_path: Path, hash_seed: str) -> None:
    here = write(tmp_path / "here", seed=3, megabytes=0.2, per_family=2)
    command = [sys.executable, "-m", "examples.starter.generate", "--out", str(tmp_path / "there")]
    command += ["--seed", "3", "--mb", "0.2", "--per-family", "2"]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True)
    for name, digest in here.items():
        assert hashlib.sha256((tmp_path / "there" / name).read_bytes()).hexdigest() == digest


def test_another_seed_writes_another_text() -> None:
    first, second = (next(training_documents(seed=seed, limit=100)) for seed in (1, 2))
    assert encode(first) != encode(second)


def test_every_slot_is_filled(slice_of_text: list[Document]) -> None:
    assert not [text for document in slice_of_text for _, text in document if "{" in text or "}" in text]


def test_articles_fit_the_next_word(slice_of_text: list[Document]) -> None:
    written = " ".join(spoken(slice_of_text, "assistant") + spoken(slice_of_text, "text"))
    wrong = {phrase for phrase in WRONG_ARTICLE.findall(written) if phrase.lower() not in SOUNDS_OTHERWISE}
    assert not wrong


def test_answers_begin_with_a_capital_and_end_whole(slice_of_text: list[Document]) -> None:
    for text in spoken(slice_of_text, "assistant"):
        assert text == text.strip()
        assert text[0].isupper() or text[0].isdigit() or text.split(",")[0].isalpha(), text
        assert not re.search(r"  |\.\.|,\.| ,", text), text


def test_conversations_alternate_after_an_optional_system_message(slice_of_text: list[Document]) -> None:
    for document in slice_of_text:
        roles = [role for role, _ in document if role != "system"]
        assert roles in (["text"], ["user", "assistant"] * (len(roles) // 2)), roles
        assert len(roles) == len(document) or document[0][0] == "system"


def test_held_out_pairs_are_never_compared_in_the_training_text(slice_of_text: list[Document]) -> None:
    compared = re.compile(r"(?:A|An|The) (\w+) is (bigger|larger|smaller) than (?:a|an|the) (\w+)\.")
    pairs = set()
    for one, word, two in compared.findall(" ".join(spoken(slice_of_text, "assistant"))):
        pairs.add((one, two) if word == "smaller" else (two, one))
    ranked = [thing for row in SIZES for thing in row]
    held = {(x, y) for x in ranked for y in ranked if is_held_out(Turn("size", f"{x}/{y}", "", ""))}
    assert len(pairs) > 200
    assert not pairs & held


def test_held_out_sums_are_taught_in_other_wordings_only(slice_of_text: list[Document]) -> None:
    asked = {bare(text) for text in spoken(slice_of_text, "user")}
    held = [
        (x, y)
        for x in range(11)
        for y in range(11)
        if is_held_out(Turn("addition", f"{min(x, y)}+{max(x, y)}", "", ""))
    ]
    assert held
    assert not [pair for pair in held if "what is {} plus {}".format(*pair) in asked]
    assert [pair for pair in held if "what is the sum of {} and {}".format(*pair) in asked]


def test_held_out_questions_are_nowhere_in_the_training_text(slice_of_text: list[Document]) -> None:
    trained = {bare(text) for text in spoken(slice_of_text, "user")}
    turns = [turn for turn in held_out_turns(seed=1, per_family=20) if turn.family not in FIXED_WORDING]
    assert len(turns) > 600
    assert not [turn.user for turn in turns if bare(turn.user) in trained]


def test_held_out_share_is_about_six_percent() -> None:
    rng = random.Random(5)
    turns = [family(rng) for _ in range(60) for family, _ in FAMILIES]
    assert 0.03 < sum(map(is_held_out, turns)) / len(turns) < 0.10


def test_every_family_gives_held_out_questions_with_an_answer() -> None:
    turns = list(held_out_turns(seed=2, per_family=5))
    assert {turn.family for turn in turns} >= {"size", "story", "pantry", "addition", "who_has"}
    assert all(is_held_out(turn) and turn.user and turn.answer for turn in turns)
    assert all(is_held_out(question) for _, question in held_out_memories(seed=2, count=10))


def test_drawing_from_a_family_without_the_side_asked_for_says_so() -> None:
    with pytest.raises(ValueError, match="one_question"):
        draw(one_question, random.Random(1), held_out=not is_held_out(one_question(random.Random(1))))


def one_question(rng: random.Random) -> Turn:
    return Turn("only", "one", "One?", "One.")


@pytest.mark.parametrize("question", ["What is a dog?", "hello! what is a dog", "Tell me, What is a dog?"])
def test_bare_form_is_the_same_in_any_dress(question: str) -> None:
    assert bare(question) == "what is a dog"


def test_bare_form_drops_the_lead_of_a_pantry_question() -> None:
    assert bare("Hi. In Pantry, how do I start Pantry?") == bare("How do I start Pantry?")


def test_questions_are_read_back_from_the_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(encode([("user", "Hi. What is a dog?"), ("assistant", "A dog is an animal.")]))
    assert questions_in(tmp_path / "t.jsonl") == {"what is a dog"}


@pytest.mark.parametrize(
    ("noun", "many"),
    [("child", "children"), ("box", "boxes"), ("city", "cities"), ("day", "days"), ("potato", "potatoes"),
     ("piece of clothing", "pieces of clothing"), ("leaf", "leaves"), ("toy", "toys")],
)  # fmt: skip
def test_plural(noun: str, many: str) -> None:
    assert plural(noun) == many


def test_article_before_vowels_and_uncountable_words() -> None:
    assert [a("apple"), a("dog"), a("unicorn"), a("milk")] == ["an apple", "a dog", "a unicorn", "milk"]
    assert all(a(thing) for thing in KINDS)
