"""The facts that are shipped: complete, connected, and without the errors of the documents they come from."""

import re
from typing import Any

import pytest

from pantry.catalogue.expressions import parse_expression
from pantry.catalogue.files import BUILTIN, catalogue_files, read_file
from pantry.catalogue.rights import USES
from pantry.catalogue.schema import Dataset, Entry, Family, Licence, ModelEntry
from pantry.catalogue.tags import YearTag, year_tag_by_size
from tests.catalogue.shipped import BOOK

LOADED = [each for file in catalogue_files(BUILTIN) for each in read_file(file, "builtin")]
ENTRIES = [each for each in LOADED if isinstance(each.entry, Entry)]
MODELS: dict[str, ModelEntry] = {each.entry.id: each.entry for each in LOADED if isinstance(each.entry, ModelEntry)}

FLATPACK_TABLE = [
    "databricks-dolly-15k",
    "falcon-refinedweb",
    "Cerebras-GPT-13B",
    "falcon-7b",
    "falcon-7b-instruct",
    "falcon-40b",
    "falcon-40b-instruct",
    "falcon-180B",
    "falcon-180B-chat",
    "h2ogpt-oasst1-falcon-40b",
    "Llama-2-7b-hf",
    "Llama-2-7b-chat-hf",
    "Llama-2-13b-hf",
    "Llama-2-13b-chat-hf",
    "Llama-2-70b-hf",
    "Llama-2-70b-chat-hf",
    "mpt-7b",
    "mpt-7b-instruct",
    "mpt-7b-storywriter",
    "open_llama_3b",
    "open_llama_7b",
    "open_llama_13b",
    "pythia-12b",
    "stablelm-base-alpha-3b",
    "stablelm-base-alpha-7b",
]
PANTRY_FAMILIES = [
    "GPT-2",
    "GPT-J",
    "LLaMA",
    "Alpaca",
    "Vicuna",
    "Koala",
    "Wizard",
    "GPT-NeoX",
    "StableLM",
    "BLOOM",
    "BLOOMZ",
    "MPT",
    "RedPajama",
]
PANTRY_MODELS = ["openai_gpt_4", "openai_gpt_3.5", "GPT4All v1", "GPT4-X", "Dolly v2", "GPT-2", "BLOOMZ"]
RIGHTS_TABLE = [
    ("chatgpt", "unavailable", "unavailable", "user owns"),
    ("claude-2", "unavailable", "unavailable", "commercial permitted"),
    ("vicuna-33b", "open source", "unavailable", "no commercial"),
    ("vicuna-13b", "open source", "unavailable", "commercial permitted"),
    ("mpt-30b-chat", "open source", "unavailable", "no commercial"),
    ("llama-2-13b-chat", "open source", "unavailable", "commercial permitted"),
    ("rwkv-4-raven-14b", "open source", "available", "user owns"),
    ("oasst-sft-4-pythia-12b", "open source", "available", "user owns"),
    ("mpt-30b-instruct", "open source", "unavailable", "commercial permitted"),
    ("mpt-30b", "open source", "unavailable", "user owns"),
]
OTHER_TABLES = {
    "vector-store": "weaviate qdrant milvus redisvl chroma pinecone pgvector",
    "sdk": "langchain llama-index litellm",
    "engine": "triton tgi vllm bentoml modular localai",
    "format": "onnx ggml tensorrt gguf",
    "desktop-app": "lm-studio gpt4all koboldcpp local-ai ollama llamafile",
    "accelerator": "nvidia amd apple intel tpu cpu",
    "tuning-need": "llama-2-7b falcon-40b stable-diffusion yolo whisper-medium whisper-large",
    "leaderboard": "openllm alpaca-eval chatbot-arena human-eval-llm mteb code-humaneval big-code-models tts-ljspeech "
    "open-asr object-detection segmentation-ade20k open-parti-prompt ucf101 kinetics-700 t2v-msr-vtt vqa-msvd",
    "dataset": "arc hellaswag mmlu truthfulqa mt-bench humaneval sharegpt alpaca-52k oasst1 laion-5b",
    "model": "fraudgpt wormgpt poisongpt wizardlm-7b-uncensored falcon-180b point-alpaca-7b open_llama_7b openchat-3.2",
    "licence": "unlicense cc0-1.0 apache-2.0 cc-by-4.0 gpl-3.0 cc-by-sa-4.0 mpl-2.0 ms-pl ms-rl cern-ohl-p-2.0",
}


@pytest.mark.parametrize("name", FLATPACK_TABLE)
def test_row_of_the_table_of_commercially_usable_works_is_present(name: str) -> None:
    entry = BOOK.find_model(name) or BOOK.find_dataset(name)
    assert entry is not None
    assert "flatpack-readme" in entry.sources


@pytest.mark.parametrize("name", PANTRY_FAMILIES)
def test_family_of_the_first_pantry_is_present_with_a_model(name: str) -> None:
    family = BOOK.find("family", name, Family)
    model = BOOK.find_model(name)
    assert family is not None or model is not None
    if family is not None:
        assert any(each.family == family.id for each in MODELS.values())


@pytest.mark.parametrize("name", PANTRY_MODELS)
def test_model_of_the_first_pantry_is_present(name: str) -> None:
    assert BOOK.find_model(name) is not None


@pytest.mark.parametrize(("id", "weights", "data", "output"), RIGHTS_TABLE)
def test_row_of_the_rights_table_is_kept_as_published(id: str, weights: str, data: str, output: str) -> None:
    row = MODELS[id].published_rights
    assert row is not None
    assert (row.weights, row.data, row.output) == (weights, data, output)


def test_rights_table_keeps_its_order() -> None:
    ranked = [(each.published_rights.rank, each.id) for each in MODELS.values() if each.published_rights]
    assert [id for _, id in sorted(ranked)] == [row[0] for row in RIGHTS_TABLE]


@pytest.mark.parametrize(("kind", "ids"), OTHER_TABLES.items())
def test_rows_of_the_other_tables_are_present(kind: str, ids: str) -> None:
    present = {each.entry.id for each in LOADED if each.kind == kind}
    assert set(ids.split()) <= present


def test_every_id_is_used_once() -> None:
    keys = [(each.kind, each.entry.id) for each in LOADED]
    assert len(keys) == len(set(keys))


def test_every_source_that_is_named_exists_and_every_source_is_used() -> None:
    known = {each.entry.id for each in LOADED if each.kind == "source"}
    named = set()
    for each in ENTRIES:
        for ref in (*each.entry.sources, *(ref for refs in each.entry.fact_sources.values() for ref in refs)):
            named.add(ref.partition(":")[0])
    assert named == known


def test_every_source_but_common_knowledge_says_its_version_or_date() -> None:
    for each in LOADED:
        if each.kind == "source" and each.entry.id != "background":
            assert each.entry.version or each.entry.date, each.entry.id


@pytest.mark.parametrize("each", [e for e in ENTRIES if e.entry.fact_sources], ids=lambda each: each.entry.id)
def test_source_of_a_fact_belongs_to_a_fact_that_is_there(each: Any) -> None:
    for field in each.entry.fact_sources:
        assert getattr(each.entry, field) not in (None, (), {}), f"{each.entry.id}.{field}"


def test_bases_data_licences_families_and_tags_exist() -> None:
    families = {each.entry.id for each in LOADED if each.kind == "family"}
    for model in MODELS.values():
        assert model.family in families
        assert model.base is None or model.base in MODELS, f"{model.id}: {model.base}"
        for name in model.data:
            assert BOOK.find_dataset(name), f"{model.id}: {name}"
        for tag in model.tags:
            assert YearTag.parse(tag) or tag in BOOK.tag_rules, f"{model.id}: {tag}"


def test_every_licence_that_is_named_is_known() -> None:
    named = [model.licence for model in MODELS.values()]
    named += [each.entry.licence for each in LOADED if isinstance(each.entry, Dataset)]
    for text in filter(None, named):
        assert parse_expression(text, BOOK.licence_names).known, text


def test_every_use_of_every_model_gets_an_answer() -> None:
    from pantry.catalogue.rights import Circumstances

    for model in MODELS.values():
        for use in USES:
            answer = BOOK.judge(model, use, Circumstances())
            assert answer.conditions if answer.verdict == "conditional" else not answer.conditions


def test_year_tags_follow_the_size_rule_or_a_published_list() -> None:
    published = {"gpt-4", "chatgpt", "gpt-2", "gpt-j-6b", "gpt-neox-20b", "bloomz", "llama-65b", "alpaca-7b"}
    published |= {"vicuna-13b", "stablelm", "redpajama"}
    for model in MODELS.values():
        years = [tag for tag in model.tags if YearTag.parse(tag)]
        assert len(years) <= 1
        if years and model.id not in published:
            assert years[0] == year_tag_by_size(model.released, model.parameters), model.id


def test_tags_follow_their_rules() -> None:
    for model in MODELS.values():
        if "LONG_CONTEXT" in model.tags:
            assert (model.context or 0) >= 32768
        assert ("VISION" in model.tags) == ("image" in model.inputs and "text" in model.outputs), model.id
        if "CONVERSATIONAL" in model.tags:
            assert model.role in ("chat", "instruct", "reasoning", "unknown"), model.id


def test_alignment_says_where_it_is_known_from_and_no_base_model_is_aligned() -> None:
    models = [each.entry for each in LOADED if isinstance(each.entry, ModelEntry)]
    stated = [model for model in models if model.alignment in ("aligned", "unaligned")]
    assert len([model for model in stated if model.alignment == "aligned"]) >= 20
    for model in stated:
        assert model.fact_sources.get("alignment") or "book:unaligned-models" in model.sources, model.id
    assert all(model.alignment == "unaligned" for model in models if model.role == "base")


def test_licence_texts_named_by_spdx_are_spelt_as_spdx_has_them() -> None:
    from license_expression import get_spdx_licensing

    known = get_spdx_licensing().known_symbols
    for each in LOADED:
        if isinstance(each.entry, Licence) and each.entry.spdx:
            assert each.entry.spdx in known


@pytest.mark.parametrize(
    ("id", "field", "value"),
    [
        ("llama-7b", "organisation", "Meta"),
        ("llama-7b", "training_tokens", 10**12),
        ("vicuna-13b", "organisation", "LMSYS"),
        ("stablelm-base-alpha-7b", "family", "stablelm"),
        ("dolly-v2", "base", "pythia-12b"),
        ("falcon-40b", "training_tokens", 10**12),
        ("gpt-2", "released", "2019-02"),
        ("dolly-v2", "inputs", ("text",)),
        ("stable-audio", "outputs", ("audio",)),
        ("vicuna-13b", "licence", "llama-1-noncommercial"),
    ],
)
def test_errors_of_the_documents_are_not_carried_over(id: str, field: str, value: object) -> None:
    assert getattr(MODELS[id], field) == value


def test_every_known_error_of_the_documents_is_on_record() -> None:
    corrections = {each.entry.id for each in LOADED if each.kind == "correction"}
    assert {"llama-maker", "llama-tokens", "vicuna-maker", "stablelm-family", "redpajama-family"} <= corrections
    assert len(corrections) == 40


def test_notes_are_sentences() -> None:
    for each in ENTRIES:
        if each.entry.notes:
            assert re.search(r"[.;!?]$", each.entry.notes), f"{each.entry.id}: {each.entry.notes}"
