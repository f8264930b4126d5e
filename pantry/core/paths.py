"""Where Pantry keeps things. `PANTRY_HOME` puts all of it in one folder."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import ForbiddenError, UsageError
from pantry.core.files import storage_errors

MAX_SOCKET_PATH = 100
"""Bytes a Unix socket's path may have (the kernel's limit is 108 on Linux, 104 on macOS, with the end mark)."""
_ROOM_FOR_NAME = 24


@dataclass(frozen=True)
class Paths:
    """The folders of one Pantry home. Nothing is created until it is needed."""

    config: Path
    data: Path
    run: Path

    @property
    def config_file(self) -> Path:
        return self.config / "config.toml"

    @property
    def key_file(self) -> Path:
        """The owner's copy of the key that the first start makes; readable by the owner only."""
        return self.data / "owner.key"

    @property
    def database(self) -> Path:
        return self.data / "pantry.db"

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def partial(self) -> Path:
        """Downloads that are not complete yet."""
        return self.data / "partial"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def job_logs(self) -> Path:
        """The log of each job, one file a job."""
        return self.data / "jobs"

    @property
    def fault_log(self) -> Path:
        """The tracebacks of faults in Pantry itself, of commands and of the service."""
        return self.logs / "faults.log"

    @property
    def socket(self) -> Path:
        return self.run / "pantry.sock"

    @property
    def call_socket(self) -> Path:
        """Where programs call the native API, one JSON object a line."""
        return self.run / "call.sock"

    @property
    def app_keys(self) -> Path:
        """Where the client library of this user's programs keeps their keys, one file an app."""
        return self.config / "apps"

    @property
    def service_file(self) -> Path:
        """What the running service says of itself: process, address, version."""
        return self.run / "service.json"

    @property
    def lock_file(self) -> Path:
        return self.run / "service.lock"


def find_paths(environment: dict[str, str] | None = None) -> Paths:
    """The folders from `PANTRY_HOME`, else the platform's user folders (platformdirs). All are absolute.

    Sockets lie in XDG_RUNTIME_DIR where that is set and ours, else beside the data: never in a folder that another
    user could have made.
    """
    env = dict(os.environ) if environment is None else environment
    home = env.get("PANTRY_HOME")
    if home:
        base = absolute_home(home)
        return Paths(base / "config", base / "data", _short_enough(base / "run"))
    import platformdirs

    data = Path(platformdirs.user_data_dir("pantry"))
    runtime = Path(env.get("XDG_RUNTIME_DIR") or "/nonexistent")
    run = runtime / "pantry" if is_ours(runtime) else data / "run"
    return Paths(Path(platformdirs.user_config_dir("pantry")), data, _short_enough(run))


def absolute_home(text: str) -> Path:
    """The folder that a value of `PANTRY_HOME` names. Raises UsageError when its user is unknown."""
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise UsageError(f"PANTRY_HOME is {text!r}, and there is no such user.") from None


def is_ours(folder: Path) -> bool:
    """Whether `folder` is a real folder of this user that nobody else can write to."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _short_enough(folder: Path) -> Path:
    """`folder`, or a short private one under the temporary folder when sockets in `folder` would be too long."""
    if len(os.fsencode(folder)) + _ROOM_FOR_NAME <= MAX_SOCKET_PATH:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"pantry-{os.getuid()}-{name}"


def make_private(folder: Path) -> None:
    """Create `folder` with owner-only rights, or check that an existing one is ours and closed to others.

    Raises ForbiddenError when another user owns it (someone may wait in a shared temporary folder) and StorageError
    when it cannot be made.
    """
    with storage_errors(f"Making the folder {folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ForbiddenError(
                f"{folder} belongs to another user.", hint="Remove it, or set PANTRY_HOME to a folder of yours."
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
