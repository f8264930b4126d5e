import json
import pickle
from pathlib import Path

import pytest

from pantry.formats.safety import scan, scan_folder
from tests.gguf_files import GGUFBuilder, value

BAD = "{{ ''.__class__ }}"


def write(tmp_path: Path, name: str, content: bytes) -> Path:
    file = tmp_path / name
    file.write_bytes(content)
    return file


def test_good_gguf_is_safe(tiny_gguf: Path) -> None:
    assert scan(tiny_gguf).safe


def test_template_inside_gguf_is_checked_whatever_its_variant(tmp_path: Path) -> None:
    for key in ("tokenizer.chat_template", "tokenizer.chat_template.tool_use"):
        builder = GGUFBuilder()
        builder.metadata[key] = value(8, BAD)
        verdict = scan(write(tmp_path, "x.gguf", builder.build()))
        assert verdict.level == "refused"
        assert key in str(verdict.findings[0])


def test_damaged_gguf_is_refused(tmp_path: Path) -> None:
    assert scan(write(tmp_path, "x.gguf", GGUFBuilder(version=9).build())).level == "refused"


@pytest.mark.parametrize("name", ["model.bin", "model.gguf", "model.safetensors", "config.json", "notes.md"])
def test_pickle_is_found_under_any_name(tmp_path: Path, name: str) -> None:
    assert scan(write(tmp_path, name, b"\x80\x04" + b"cos\nsystem\n.")).level == "refused"


def test_text_pickle_is_found_by_its_suffix(tmp_path: Path) -> None:
    assert scan(write(tmp_path, "model.pth", b"cos\nsystem\n.")).level == "refused"


def test_safetensors_named_bin_is_read_as_such(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    assert scan(write(tmp_path, "model.bin", len(header).to_bytes(8, "little") + header + b"x")).format == "safetensors"


def test_templates_in_json_are_checked_in_both_layouts(tmp_path: Path) -> None:
    for layout in (BAD, [{"name": "default", "template": "{{ x }}"}, {"name": "tools", "template": BAD}]):
        file = write(tmp_path, "tokenizer_config.json", json.dumps({"chat_template": layout}).encode())
        assert scan(file).level == "refused"
    assert scan(write(tmp_path, "x.json", b'{"chat_template": {"a": 1}}')).safe
    assert scan(write(tmp_path, "x.jinja", BAD.encode())).level == "refused"


@pytest.mark.parametrize(
    "content",
    [
        {"chat_template": {"default": "{{ x }}", "tools": BAD}},
        {"chat_template": {"variants": [{"name": "rag", "template": BAD}]}},
        {"chat_template": [BAD]},
        {"processor": {"chat_template": BAD}},
        {"additional_chat_templates": {"rag": BAD}},
    ],
)
def test_named_and_nested_templates_are_checked(tmp_path: Path, content: object) -> None:
    assert scan(write(tmp_path, "tokenizer_config.json", json.dumps(content).encode())).level == "refused"


def test_template_behind_a_key_that_comes_twice_is_checked(tmp_path: Path) -> None:
    twice = f'{{"chat_template": {json.dumps(BAD)}, "chat_template": "{{{{ x }}}}"}}'
    assert scan(write(tmp_path, "tokenizer_config.json", twice.encode())).level == "refused"


@pytest.mark.parametrize(
    "content",
    [
        {"auto_map": {"AutoModel": "modeling_x.X"}}, {"vision_config": {"auto_map": {"AutoConfig": "x.Y"}}},
        {"trust_remote_code": True}, {"custom_pipelines": {"x": {}}},
    ],
)  # fmt: skip
def test_request_for_code_of_its_own_is_flagged(tmp_path: Path, content: object) -> None:
    verdict = scan(write(tmp_path, "config.json", json.dumps(content).encode()))
    assert verdict.level == "warning"
    assert "run code" in str(verdict.findings[0])


def test_usual_config_is_clean(tmp_path: Path) -> None:
    content = b'{"architectures": ["X"], "trust_remote_code": false, "time_step_limit": [0.0, Infinity]}'
    assert scan(write(tmp_path, "config.json", content)).findings == ()


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "config.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    assert scan(file).level == "refused"


def test_broken_json_is_refused(tmp_path: Path) -> None:
    assert scan(write(tmp_path, "x.json", b"{")).level == "refused"


def test_unknown_format_is_unknown(tmp_path: Path) -> None:
    assert scan(write(tmp_path, "x.exe", b"MZ")).level == "unknown"


def test_folder_is_scanned_in_order_and_whole(tmp_path: Path) -> None:
    write(tmp_path, "b.md", b"hello")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", "x.pkl", pickle.dumps([1]))
    assert [(path.name, verdict.level) for path, verdict in scan_folder(tmp_path)] == [
        ("x.pkl", "note"),
        ("b.md", "note"),
    ]
