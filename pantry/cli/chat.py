"""pantry chat: a conversation at the terminal."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pantry.client.conversation import Conversation
    from pantry.client.generate import Figures

HELP = """\
/help           this help
/clear          forget the conversation
/undo           take back the last turn
/system TEXT    set the system message (nothing: remove it)
/save FILE      write the conversation as JSON
/figures        switch the line of figures on or off
/exit           leave (also Ctrl-D)
\"\"\"             start a message of several lines; end it with \"\"\" again
Ctrl-C          stop the answer that is being written"""


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Models")(chat)


def chat(
    model: str = typer.Argument(help="Name of the model."),
    system: str | None = typer.Option(None, help="A system message."),
    max_tokens: int | None = typer.Option(None, min=1, help="Most tokens of one answer."),
    temperature: float | None = typer.Option(None, min=0, max=5, help="0 always takes the likeliest token."),
    seed: int | None = typer.Option(None, help="Same seed, same answers."),
) -> None:
    """Hold a conversation with a model. /help lists what you can type; Ctrl-D ends it."""
    from pantry.cli._output import note
    from pantry.client.connection import ServiceConnection
    from pantry.client.conversation import Conversation
    from pantry.client.generate import Sampling, holds_conversation
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.operations.service import ensure_service

    if sys.stdin is None:
        raise UsageError("There is no standard input to read turns from.")
    paths = find_paths()
    ensure_service(paths)
    connection = ServiceConnection(paths)
    if not holds_conversation(connection, model):
        raise UsageError(f"{model} holds no conversation: it continues text.", hint=f"Try: pantry run {model} TEXT")
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives input() line editing and history)
    note(f"Talking with {model}. /help lists what you can type; Ctrl-D ends it.")
    talk = _Terminal(Conversation(connection, model, Sampling(max_tokens, temperature, seed), system))
    while (text := talk.read()) is not None:
        if text.startswith("/"):
            if not talk.command(text):
                break
        elif text.strip():
            talk.answer(text)


class _Terminal:
    """Reads turns, runs slash commands, prints answers and their figures."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation, self.show_figures = conversation, True

    def read(self) -> str | None:
        """The next message or command; None at the end of input."""
        try:
            line = input(">>> " if sys.stdin.isatty() else "")
            if not line.startswith('"""'):
                return line
            lines = [line[3:]]
            while not lines[-1].endswith('"""'):
                lines.append(input("... " if sys.stdin.isatty() else ""))
            lines[-1] = lines[-1][:-3]
            return "\n".join(lines).strip("\n")
        except EOFError:
            return None
        except KeyboardInterrupt:
            typer.echo()
            return ""

    def command(self, text: str) -> bool:
        """Run a slash command; False to leave."""
        from pantry.cli._output import note
        from pantry.core.errors import PantryError, did_you_mean

        name, _, rest = text.partition(" ")
        match name:
            case "/exit" | "/quit" | "/bye":
                return False
            case "/help":
                note(HELP)
            case "/clear":
                self.conversation.forget()
                note("The conversation is forgotten.")
            case "/undo":
                note("The last turn is taken back." if self.conversation.undo() else "There is no turn to take back.")
            case "/system":
                self.conversation.system = rest.strip() or None
                note("The system message is set." if rest.strip() else "There is no system message now.")
            case "/figures":
                self.show_figures = not self.show_figures
            case "/save" if rest.strip():
                try:
                    self.conversation.save(Path(rest.strip()).expanduser())
                    note(f"Saved to {rest.strip()}.")
                except (PantryError, RuntimeError) as error:  # RuntimeError: ~name of an unknown user
                    note(str(error))
            case _:
                known = ["/help", "/clear", "/undo", "/system", "/save", "/figures", "/exit"]
                note(f"There is no command {text!r}. {did_you_mean(name, known, '/help lists them.')}")
        return True

    def answer(self, text: str) -> None:
        """Print the answer as it is written; Ctrl-C stops it, an error leaves the conversation as it was."""
        from pantry.cli._output import note, write_answer
        from pantry.client.generate import Figures
        from pantry.core.errors import PantryError, PromptTooLongError

        figures = Figures()
        try:
            with contextlib.closing(self.conversation.say(text, figures)) as pieces:
                for piece in pieces:
                    write_answer(piece)
            sys.stdout.write("\n")
        except KeyboardInterrupt:
            note("\n(stopped)")
            return
        except PromptTooLongError as error:
            note(f"{error} /clear starts over, /undo takes back a turn.")
            return
        except PantryError as error:
            note(f"Error: {error}")
            return
        if self.show_figures:
            typer.secho(_figures_line(figures), err=True, dim=True)


def _figures_line(figures: Figures) -> str:
    return (
        f"[{figures.prompt_tokens} tokens read, {figures.completion_tokens} written, "
        f"{figures.tokens_per_second:.0f} a second, first after {figures.first_token * 1000:.0f} ms]"
    )
