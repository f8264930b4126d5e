"""Searches as people write them, over the shipped catalogue."""

import pytest

from pantry.catalogue.index import is_obtainable
from pantry.catalogue.memory import memory_size
from pantry.catalogue.rights import Circumstances
from pantry.catalogue.search import search
from pantry.core.errors import UsageError
from tests.catalogue.shipped import BOOK


def ids(text: str, **limits: object) -> list[str]:
    return [model.id for model in search(BOOK, text, **limits)]  # type: ignore[arg-type]


def test_search_of_the_handbook() -> None:
    found = search(BOOK, "small coding model", uses=["commercial"], max_memory=6 * 10**9)
    assert found
    for model in found:
        assert "CODING" in model.tags
        assert BOOK.judge(model, "commercial", Circumstances()).verdict in ("allowed", "conditional")
        assert (memory_size(model) or 0) <= 6 * 10**9
    assert is_obtainable(found[0])
    sizes = [memory_size(model) or 0 for model in search(BOOK, "small gemma chat model", limit=50)]
    assert sizes == sorted(sizes)


def test_search_leaves_out_what_may_not_be_used() -> None:
    assert "vicuna-13b" in [model.id for model in search(BOOK, "vicuna")]
    assert "vicuna-13b" not in [model.id for model in search(BOOK, "vicuna", uses=["commercial"])]


def test_search_finds_by_family_maker_and_notes() -> None:
    assert all(model.organisation == "IBM" for model in search(BOOK, "ibm"))
    assert "gpt-j-6b" in [model.id for model in search(BOOK, "WormGPT", limit=5)]


def test_search_refuses_an_unknown_tag() -> None:
    with pytest.raises(UsageError, match="CODING"):
        search(BOOK, "", tags=["CODNG"])


@pytest.mark.parametrize(
    "written",
    [
        "llama-3.3-70b", "llama 3.3 70b", "Llama-3.3-70B-Instruct", "llama3.3:70b", "Llama_3.3_70B",
        "meta-llama/Llama-3.3-70B-Instruct", "Llama-3.3-70B-Instruct-Q4_K_M.gguf", "the llama 3.3 70b model",
    ],
)  # fmt: skip
def test_name_is_found_however_it_is_written(written: str) -> None:
    assert "llama-3.3-70b-instruct" in ids(written)


@pytest.mark.parametrize("name", ["qwen3-0.6b", "qwen3-8b", "vicuna-7b", "code-llama-7b"])
def test_model_of_exactly_that_name_comes_first(name: str) -> None:
    assert ids(name)[0] == ids(name.upper())[0] == ids(f"{name}-Q8_0.gguf")[0] == name


def test_exact_name_obeys_the_limits() -> None:
    assert "llama-3.3-70b-instruct" not in ids("llama-3.3-70b-instruct", max_memory=6 * 10**9)
    assert "vicuna-7b" not in ids("vicuna-7b", uses=["commercial"])


@pytest.mark.parametrize("word", ["coder", "code", "programming", "developer"])
def test_words_of_one_meaning_find_the_same(word: str) -> None:
    assert ids(word) == ids("coding")


def test_word_of_a_tag_may_be_part_of_a_name_as_well() -> None:
    assert ids("code llama")[0].startswith("code-llama")


def test_size_words_limit_and_order() -> None:
    sizes = [BOOK.model(name).parameters or 0 for name in ids("small chat", limit=50)]
    assert sizes
    assert max(sizes) <= 10**10
    assert max(BOOK.model(name).parameters or 0 for name in ids("tiny chat", limit=50)) <= 2 * 10**9
    assert min(BOOK.model(name).parameters or 0 for name in ids("large chat", limit=50)) >= 2 * 10**10
    assert ids("small llama-3.3-70b-instruct") == ids("llama-3.3-70b-instruct")


def test_words_that_nothing_has_find_nothing() -> None:
    assert ids("xyzzy") == []
