from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError
from pantry.flatpack.containerfile import Recipe2023, load_recipe, to_containerfile, to_venv_script

RECIPE = b"""\
version = "0.0.1"
base_image = "debian:stable-slim"

[environment]
model_name = "nanogpt-shakespeare"

[[port]]
external = 8080
internal = 80

[directories]
data = "/home/content/data"

[packages.unix]
gcc = "*"
wget = "1.21.3-1"

[packages.python]
numpy = "*"
torch = "2.0.1"

[[git]]
from_source = "https://github.com/romlingroup/nanoGPT/tree/master"
to_destination = "/home/content/nanoGPT"

[[dataset]]
from_source = "https://example.org/input.txt"
to_destination = "/home/content/data/input.txt"

[[file]]
from_source = "train.sh"
to_destination = "/home/content/train.sh"

[[run]]
command = "chmod"
args = "+x /home/content/train.sh"

[[cmd]]
command = "bash"
args = "/home/content/train.sh"
"""

EVIL = "$(touch pwned)`touch pwned`;touch pwned'\"\\ && touch pwned #"


def test_a_recipe_of_2023_becomes_a_containerfile() -> None:
    lines = to_containerfile(load_recipe(RECIPE, "flatpack.toml")).splitlines()
    assert lines[0] == "FROM debian:stable-slim"
    assert "wget=1.21.3-1" in lines[1]
    assert 'ENV model_name="nanogpt-shakespeare"' in lines
    assert 'RUN ["pip", "install", "--no-cache-dir", "--", "numpy", "torch==2.0.1"]' in lines
    assert (
        'RUN ["git", "clone", "--depth", "1", "--", "https://github.com/romlingroup/nanoGPT", "/home/content/nanoGPT"]'
        in lines
    )
    assert 'COPY ["train.sh", "/home/content/train.sh"]' in lines
    assert 'RUN ["chmod", "+x", "/home/content/train.sh"]' in lines
    assert lines[-2:] == ["EXPOSE 80", 'CMD ["bash", "/home/content/train.sh"]']


def test_a_recipe_of_2023_becomes_a_script_that_runs(tmp_path: Path) -> None:
    text = RECIPE.decode()
    text = text[: text.index("[packages.unix]")] + text[text.index("[[file]]") :]
    script = to_venv_script(load_recipe(text.encode(), "flatpack.toml"))
    (tmp_path / "venv.sh").write_text(script.replace("python3 -m venv", "mkdir -p"))
    (tmp_path / "train.sh").write_text('echo trained "$model_name" > "$(dirname "$0")/done"\n')
    subprocess.run(["sh", "venv.sh", "my content"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "my content" / "done").read_text() == "trained nanogpt-shakespeare\n"
    assert (tmp_path / "my content" / "data").is_dir()


def evil_recipe(text: str) -> bytes:
    quoted = json.dumps(text)
    return f"""\
version = "0.0.1"
[environment]
E = {quoted}
[directories]
d = {json.dumps("/home/content/" + text)}
[[file]]
from_source = "train.sh"
to_destination = {json.dumps("/home/content/" + text + "/x")}
[[cmd]]
command = "echo"
args = {json.dumps(shlex.quote(text))}
""".encode()


@pytest.mark.parametrize("text", [EVIL, "a b", "$HOME", "'; touch pwned; '", '"$(touch pwned)"', "-rf", "~", "*"])
def test_values_do_not_break_out_of_the_script(tmp_path: Path, text: str) -> None:
    script = to_venv_script(load_recipe(evil_recipe(text), "flatpack.toml"))
    (tmp_path / "venv.sh").write_text(script.replace("python3 -m venv", "mkdir -p"))
    (tmp_path / "train.sh").write_text("#")
    done = subprocess.run(["sh", "venv.sh"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == text
    assert not list(tmp_path.rglob("pwned"))
    assert (tmp_path / "content" / text / "x").is_file()


@pytest.mark.parametrize("text", [EVIL, "$HOME", '"', "\\"])
def test_values_do_not_break_out_of_the_containerfile(text: str) -> None:
    lines = to_containerfile(load_recipe(evil_recipe(text), "flatpack.toml")).splitlines()
    (value,) = [line.removeprefix("ENV E=") for line in lines if line.startswith("ENV E=")]
    # The builder's own rules (backslash escapes inside double quotes) are the shell's for what occurs here.
    assert subprocess.check_output(["sh", "-c", f"printf %s {value}"], text=True) == text
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["echo", text]
    for line in lines:
        if line.startswith("RUN ["):
            assert isinstance(json.loads(line.removeprefix("RUN ")), list)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('base_image = "x\\nRUN evil"', "base_image"),
        ('base_image = "--privileged"', "base_image"),
        ('[environment]\n"A B" = "x"', "environment"),
        ('[environment]\nA = "x\\nRUN evil"', "environment.A"),
        ('[packages.unix]\n"gcc; evil" = "*"', "packages.unix"),
        ('[packages.unix]\n"-evil" = "*"', "packages.unix"),
        ('[packages.unix]\ngcc = "1 && evil"', "packages.unix.gcc"),
        ('[packages.python]\n"--index-url=http://evil" = "*"', "packages.python"),
        ('[directories]\nd = "relative"', "directories.d"),
        ('[directories]\nd = "/home/content/../../etc"', "leaves its folder"),
        ('[[file]]\nfrom_source = "../../etc/passwd"\nto_destination = "/x"', "leaves the folder"),
        ('[[file]]\nfrom_source = "/etc/passwd"\nto_destination = "/x"', "is absolute"),
        ('[[git]]\nfrom_source = "--upload-pack=evil"\nto_destination = "/x"', "git.0.from_source"),
        ('[[git]]\nfrom_source = "ext::sh -c evil"\nto_destination = "/x"', "git.0.from_source"),
        ('[[git]]\nfrom_source = "https://x.y/z"\nto_destination = "/x"\nbranch = "--evil"', "git.0.branch"),
        ("[[port]]\nexternal = 99999\ninternal = 80", "port.0.external"),
        ('[[run]]\ncommand = "-c"', "run.0.command"),
        ('[[run]]\ncomand = "x"', "did you mean 'command'?"),
    ],
)
def test_values_that_no_quoting_makes_safe_are_refused(line: str, words: str) -> None:
    with pytest.raises(BadFileError) as error:
        load_recipe(f'version = "0.0.1"\n{line}\n'.encode(), "flatpack.toml")
    assert words in error.value.message


def test_quotes_that_do_not_close_are_named() -> None:
    recipe = load_recipe(b'version = "0.0.1"\n[[cmd]]\ncommand = "echo"\nargs = "it\'s"\n', "flatpack.toml")
    with pytest.raises(BadFileError, match="do not split into words"):
        to_containerfile(recipe)


def test_several_commands_run_one_after_the_other() -> None:
    recipe = load_recipe(b'version = "0.0.1"\n[[cmd]]\ncommand = "a"\n[[cmd]]\ncommand = "b"\nargs = "c d"\n', "x")
    assert to_containerfile(recipe).splitlines()[-1] == 'CMD ["sh", "-c", "a && b c d"]'


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_environment_value_stays_one_word(text: str) -> None:
    recipe = Recipe2023.model_validate({"version": "0.0.1", "environment": {"E": text}})
    (line,) = [line for line in to_venv_script(recipe).splitlines() if line.startswith("E=")]
    assert shlex.split(line.removesuffix("; export E"))[0] == f"E={text}"
