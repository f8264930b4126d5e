"""Desktop notifications, where the desktop offers them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys

TIMEOUT = 10.0  # seconds the notifier may take


def notifier(title: str, text: str) -> list[str] | None:
    """The command that shows a notification here, or None. Text is passed as arguments, never through a shell."""
    if sys.platform == "darwin" and (program := shutil.which("osascript")):
        script = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"
        return [program, "-e", script, title, text]
    if program := shutil.which("notify-send"):
        return [program, "--app-name=Pantry", "--", title, text]
    return None


async def notify(title: str, text: str) -> bool:
    """Show a notification; False when this desktop cannot or it fails. Never raises."""
    command = notifier(title, text)
    if command is None:
        return False
    with contextlib.suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                return await process.wait() == 0
        except TimeoutError:
            process.kill()
            await process.wait()
    return False
