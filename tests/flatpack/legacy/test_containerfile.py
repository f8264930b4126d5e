from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError
from pantry.flatpack.legacy.containerfile import to_containerfile
from pantry.flatpack.legacy.recipe import Command, Recipe2023, load_recipe
from pantry.flatpack.legacy.venv_script import to_venv_script

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
    (tmp_path / "venv.sh").write_text(script.replace("python3 -I -m venv", "mkdir -p"))
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
    (tmp_path / "venv.sh").write_text(script.replace("python3 -I -m venv", "mkdir -p"))
    (tmp_path / "train.sh").write_text("#")
    done = subprocess.run(["sh", "venv.sh"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == text
    assert not list(tmp_path.rglob("pwned"))
    assert (tmp_path / "content" / text / "x").is_file()


def unquoted_by_the_builder(text: str) -> str:
    """A word of ENV or COPY as the builder's `shell/lex.go` reads it: in double quotes it knows three escapes."""
    found, quote, at = "", "", 0
    while at < len(text):
        character, after = text[at], text[at + 1 : at + 2]
        at += 1
        if character == "\\" and quote != "'":
            if not quote or after in ('"', "$", "\\"):
                character, at = after, at + 1
            found += character
        elif character == quote:
            quote = ""
        elif character in "'\"" and not quote:
            quote = character
        else:
            assert character != "$" or quote == "'", "a variable would be put in"
            found += character
    assert not quote
    return found


@pytest.mark.parametrize("text", [EVIL, "$HOME", '"', "\\", "it's", "`id`", "x\\", "a<<EOF", "--mount=type=bind"])
def test_values_do_not_break_out_of_the_containerfile(text: str) -> None:
    lines = to_containerfile(load_recipe(evil_recipe(text), "flatpack.toml")).splitlines()
    (value,) = [line.removeprefix("ENV E=") for line in lines if line.startswith("ENV E=")]
    assert unquoted_by_the_builder(value) == text
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["echo", text]
    (copy,) = [json.loads(line.removeprefix("COPY ")) for line in lines if line.startswith("COPY ")]
    assert list(map(unquoted_by_the_builder, copy)) == ["train.sh", f"/home/content/{text}/x"]
    for line in lines:
        assert "<<" not in line or line.startswith("ENV ")  # ENV takes no document
        assert not line.endswith("\\")
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
        ('[[git]]\nfrom_source = "sub/repository"\nto_destination = "/x"', "is not an address"),
        ('[[git]]\nfrom_source = "../repository"\nto_destination = "/x"', "is not an address"),
        ('[[file]]\nfrom_source = "*.sh"\nto_destination = "/x"', "the name of one file"),
        ('[packages.unix]\n"libc6-" = "*"', "packages.unix"),
        ('[packages.python]\n"evil.whl" = "*"', "taken for a file"),
        ('[[run]]\ncommand = "-c"', "run.0.command"),
        ('[[run]]\ncommand = "eval"\nargs = "touch pwned"', "a word of the shell"),
        ('[[run]]\ncommand = "."\nargs = "./x"', "a word of the shell"),
        ('[[cmd]]\ncommand = "if"', "a word of the shell"),
        ('[[cmd]]\ncommand = "LD_PRELOAD=./evil.so"\nargs = "ls"', "cmd.0.command"),
        ('[[cmd]]\ncommand = "a;b"', "cmd.0.command"),
        ('[[cmd]]\ncommand = "../../bin/x"', "leaves its folder"),
        ('[[cmd]]\ncommand = "cat"\nargs = "/home/content/../../etc/passwd"', "leaves its folder"),
        ('[[cmd]]\ncommand = "cat"\nargs = "--from=../x"', "leaves its folder"),
        ('[[cmd]]\ncommand = "echo"\nargs = "a\\nb"', "cmd.0.args"),
        ('[[cmd]]\ncommand = "echo"\nargs = "\\u202eevil"', "cmd.0.args"),
        ('[environment]\nLD_PRELOAD = "./evil.so"', "changes which programs"),
        ('[environment]\nPATH = "/home/content/bin"', "changes which programs"),
        ('[environment]\nBASH_ENV = "x"', "changes which programs"),
        ('[[run]]\ncomand = "x"', "did you mean 'command'?"),
    ],
)
def test_values_that_no_quoting_makes_safe_are_refused(line: str, words: str) -> None:
    with pytest.raises(BadFileError) as error:
        load_recipe(f'version = "0.0.1"\n{line}\n'.encode(), "flatpack.toml")
    assert words in error.value.message


def test_quotes_that_do_not_close_are_named() -> None:
    with pytest.raises(BadFileError, match="do not split into words"):
        load_recipe(b'version = "0.0.1"\n[[cmd]]\ncommand = "echo"\nargs = "it\'s"\n', "flatpack.toml")


def test_several_commands_run_one_after_the_other() -> None:
    recipe = load_recipe(b'version = "0.0.1"\n[[cmd]]\ncommand = "a"\n[[cmd]]\ncommand = "b"\nargs = "c d"\n', "x")
    assert to_containerfile(recipe).splitlines()[-1] == 'CMD ["sh", "-c", "(exec a) && (exec b c d)"]'


@pytest.mark.parametrize(
    "word", ["eval", "command", "trap", "LD_PRELOAD=x", "if", "{", "!", "time", "a b", "$(x)", ">"]
)
def test_no_command_is_read_by_a_shell_even_unchecked(tmp_path: Path, word: str) -> None:
    """What the schema refuses is harmless also where it is quoted and `exec`ed alone."""
    command = Command.model_construct(command=word, args="'touch pwned' EXIT; touch pwned")
    recipe = Recipe2023.model_construct(version="0.0.1", cmd=(command, command))
    (line,) = [line for line in to_containerfile(recipe).splitlines() if line.startswith("CMD ")]
    for words in (json.loads(line.removeprefix("CMD ")), ["sh", "-c", script_of_commands(recipe)]):
        for shell in ("sh", "bash"):
            subprocess.run([shell, *words[1:]], cwd=tmp_path, check=False, capture_output=True)
    assert not list(tmp_path.rglob("pwned"))


def script_of_commands(recipe: Recipe2023) -> str:
    """The part of the script that runs the recipe's commands."""
    script = to_venv_script(recipe)
    return 'root="$PWD"\n' + script[script.index("run() (") :]


def test_variables_of_the_recipe_do_not_move_its_own_script(tmp_path: Path) -> None:
    text = 'version = "0.0.1"\n[environment]\nroot = "/elsewhere"\nhere = "/elsewhere"\nmkdir = "x"\n'
    text += '[[file]]\nfrom_source = "a.txt"\nto_destination = "/home/content/b.txt"\n'
    text += '[[cmd]]\ncommand = "sh"\nargs = "-c \'echo $root; cat b.txt\'"\n'
    script = to_venv_script(load_recipe(text.encode(), "flatpack.toml"))
    (tmp_path / "venv.sh").write_text(script.replace("python3 -I -m venv", "mkdir -p"))
    (tmp_path / "a.txt").write_text("content\n")
    done = subprocess.run(["sh", "venv.sh"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["/elsewhere", "content"]


def test_making_the_environment_runs_no_file_of_the_flatpack(tmp_path: Path) -> None:
    (tmp_path / "venv.py").write_text("open('pwned', 'w')")
    (tmp_path / "venv.sh").write_text(to_venv_script(load_recipe(b'version = "0.0.1"\n', "flatpack.toml")))
    subprocess.run(["sh", "venv.sh"], cwd=tmp_path, check=True, capture_output=True)
    assert not list(tmp_path.rglob("pwned"))


def test_a_link_in_a_repository_does_not_lead_files_out(tmp_path: Path) -> None:
    """A repository with a link `out`, and a file of the flatpack that goes to `out/file`."""
    repository, outside = tmp_path / "repository", tmp_path / "outside"
    outside.mkdir()
    repository.mkdir()
    (repository / "out").symlink_to(outside)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=repository, check=True, capture_output=True)
    text = 'version = "0.0.1"\n[[git]]\nfrom_source = "https://host/x"\nto_destination = "/home/content/repo"\n'
    text += '[[file]]\nfrom_source = "a.txt"\nto_destination = "/home/content/repo/out/a.txt"\n'
    script = to_venv_script(load_recipe(text.encode(), "flatpack.toml"))
    script = script.replace("python3 -I -m venv", "mkdir -p").replace("https://host/x", repository.as_uri())
    (tmp_path / "venv.sh").write_text(script)
    (tmp_path / "a.txt").write_text("a")
    done = subprocess.run(["sh", "venv.sh"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (tmp_path / "content" / "repo" / "out").is_file(), done.stderr
    assert not list(outside.iterdir())


@pytest.mark.parametrize("shell", ["sh", "bash"])
@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=40))
@settings(max_examples=25)
def test_any_argument_reaches_its_program_as_it_is(shell: str, text: str) -> None:
    assume(".." not in re.split("[/=:,]", text) and not text.startswith("/home/content"))
    table = {"version": "0.0.1", "cmd": [{"command": "printf", "args": f"%s {shlex.quote(text)}"}] * 2}
    recipe = Recipe2023.model_validate(table)
    line = to_containerfile(recipe).splitlines()[-1].removeprefix("CMD ")
    for script in (json.loads(line)[2], script_of_commands(recipe)):
        assert subprocess.run([shell, "-c", script], check=True, capture_output=True).stdout.decode() == text * 2


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=40))
def test_any_environment_value_stays_one_word(text: str) -> None:
    recipe = Recipe2023.model_validate({"version": "0.0.1", "environment": {"E": text}})
    (line,) = [line for line in to_venv_script(recipe).split("\n") if line.startswith("    E=")]
    assert shlex.split(line.removesuffix("; export E"))[0] == f"E={text}"
