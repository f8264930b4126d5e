"""The commands about the catalogue, end to end in one process."""

import json
from pathlib import Path

import pytest

from pantry.cli._app import run
from pantry.core.paths import Paths


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.out if code == 0 else printed.err + printed.out


def test_search(capsys: pytest.CaptureFixture[str]) -> None:
    text = ask(capsys, "search", "small coding model", "--licence-use", "commercial", "--max-ram", "6GB")
    assert "code-llama-7b-instruct" in text
    found = json.loads(ask(capsys, "search", "olmo", "--json", "--tag", "2024_MED"))
    assert {model["id"] for model in found} == {"olmo-2-1124-7b-instruct", "olmo-3-7b-instruct", "olmo-3.1-32b-think"}
    assert "Try other words" in ask(capsys, "search", "nosuchthing")
    assert "Did you mean 'commercial'" in ask(capsys, "search", "--licence-use", "comercial", code=2)
    assert "is not a size" in ask(capsys, "search", "--max-ram", "much", code=2)


def test_licence_show_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    text = ask(capsys, "licence", "show", "llama-3.3")
    assert "700,000,000" in text
    assert "not legal advice" in text
    assert json.loads(ask(capsys, "licence", "show", "MIT", "--json"))["id"] == "mit"
    assert "gemma-terms" in ask(capsys, "licence", "list")
    assert len(json.loads(ask(capsys, "licence", "list", "--json"))) >= 50
    assert "Did you mean" in ask(capsys, "licence", "show", "apache-2.1", code=3)


def test_licence_check(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("licence", "check", "qwen3-0.6b", "--use", "commercial,redistribute,train-on-outputs")
    text = ask(capsys, *arguments, "--users", "1e6", "--revenue", "2e6", "--region", "EU")
    assert "commercial: allowed\n" in text
    assert "redistribute: allowed if you:" in text
    assert "not legal advice" in text
    refused = ask(capsys, "licence", "check", "vicuna-13b", code=5)
    assert "commercial: not allowed" in refused
    answers = json.loads(ask(capsys, *arguments, "--json"))
    assert [answer["answer"] for answer in answers] == ["allowed", "allowed if", "allowed"]
    assert "does not parse" in ask(capsys, "licence", "check", "MIT OR", code=2)
    assert "is not a region" in ask(capsys, "licence", "check", "MIT", "--region", "Europe", code=2)
    assert "neither a model" in ask(capsys, "licence", "check", "zzz", code=3)


def test_policy(capsys: pytest.CaptureFixture[str], paths: Paths) -> None:
    assert "mode" in ask(capsys, "policy", "show")
    ask(capsys, "policy", "set", "mode=enforce", "required_use=commercial", "minimum_evidence.coding=2")
    assert json.loads(ask(capsys, "policy", "show", "--json"))["mode"] == "enforce"
    assert "coding = 2" in ask(capsys, "policy", "show")
    text = ask(capsys, "policy", "explain", "vicuna-13b")
    assert text.startswith("Downloading vicuna-13b is refused. Commercial use is not allowed")
    assert json.loads(ask(capsys, "policy", "explain", "phi-4", "--json"))["verdict"] == "allowed"
    assert "is not a rule" in ask(capsys, "policy", "set", "mode", code=2)
    assert "Did you mean 'mode'" in ask(capsys, "policy", "set", "mod=warn", code=2)
    assert "Did you mean 'pull'" in ask(capsys, "policy", "explain", "phi-4", "--action", "pul", code=2)


def test_choose(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("choose", "--need", "tag:CONVERSATIONAL,context>=8192,licence:commercial", "--prefer", "speed")
    assert ask(capsys, *arguments).strip() == "smollm2-135m-instruct"
    assert "meets all 3 requirements" in ask(capsys, *arguments, "--explain")
    choice = json.loads(ask(capsys, *arguments, "--json"))
    assert choice["action"] == "download"
    assert all(each["lacked"] for each in choice["runners_up"])
    assert "Did you mean 'CODING'" in ask(capsys, "choose", "--need", "CODNG", code=2)
    assert "coding>=10 excluded" in ask(capsys, "choose", "--need", "coding>=10", code=3)
    assert "No model is installed" in ask(capsys, "choose", "--fallback", "requirements_load", code=3)
    assert "needs the name" in ask(capsys, "choose", "--fallback", "none", code=2)


def test_fit(capsys: pytest.CaptureFixture[str], tiny_gguf: Path) -> None:
    text = ask(capsys, "fit", "qwen3-0.6b", "--vram", "8GB")
    assert "Q4_K_M" in text
    assert "29 of 29" in text
    assert json.loads(ask(capsys, "fit", str(tiny_gguf), "--json"))[0]["exact"] is True
    assert "SPEED" in ask(capsys, "fit")
    assert "no cache type" in ask(capsys, "fit", "phi-4", "--cache", "q9", code=2)
    assert "phi-4" in ask(capsys, "fit", "phi-5", code=3)


def test_catalogue_list_show_diff_and_check(capsys: pytest.CaptureFixture[str], paths: Paths) -> None:
    assert "weaviate" in ask(capsys, "catalogue", "list", "vector-store")
    assert json.loads(ask(capsys, "catalogue", "list", "tag", "--json"))[0]["origin"] == "builtin"
    assert "Did you mean" in ask(capsys, "catalogue", "list", "tags", code=2)
    text = ask(capsys, "catalogue", "show", "vicuna-13b")
    assert "llama-1-noncommercial" in text
    assert "Caution: The licence of the training data sharegpt is not known." in text
    assert json.loads(ask(capsys, "catalogue", "show", "gpt-4", "--json"))["memory_bytes"] is None
    assert ask(capsys, "catalogue", "diff") == "No differences.\n"
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True)
    entry = '[[model]]\nid = "own"\nname = "Own"\nfamily = "qwen"\nsources = ["background"]\nchecked = "2026"\n'
    (folder / "own.toml").write_text(entry)
    assert ask(capsys, "catalogue", "diff") == "added    model own\n"
    assert "1 entries, all of them in order" in ask(capsys, "catalogue", "check")
    (folder / "own.toml").write_text(entry + "context = 'long'\n")
    assert "own.toml:7: model 'own', field 'context'" in ask(capsys, "catalogue", "check", code=8)
    assert run(["catalogue", "list", "tag"]) == 0
    assert "Left out of the catalogue: " in capsys.readouterr().err
    assert ask(capsys, "catalogue", "diff") == "No differences.\n"
    assert "Name both" in ask(capsys, "catalogue", "diff", str(folder), code=2)
