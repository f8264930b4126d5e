"""The two scripts of 2023, with their options as they were: compress-and-sign-fpk and verify-signed-fpk."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pantry.core.units import printable


def compress_and_sign() -> None:
    """Compress a file or folder and sign it, into two files."""
    parser = argparse.ArgumentParser(
        prog="compress-and-sign-fpk",
        description="Compress a file or folder and sign it, in the flatpack format of 2023.",
        epilog="An argument can be seen by other users of this machine. Give the passphrase in the environment "
        "variable PASSPHRASE, or leave it out and type it when asked.",
    )
    parser.add_argument("-i", "--input", required=True, type=Path, help="file or folder to compress")
    parser.add_argument("-o", "--output", required=True, type=Path, help="where to save the compressed file")
    parser.add_argument("-s", "--signed", required=True, type=Path, help="where to save the signed file")
    parser.add_argument("-p", "--private_key", required=True, type=Path, help="private key (RSA, PEM)")
    parser.add_argument("--hash_size", type=int, default=256, help="256, 384 or 512 (default: 256)")
    parser.add_argument("--passphrase", help="passphrase of the key; seen by other users, better not used")
    options = parser.parse_args()

    def ask(key: str) -> bytes | None:
        if options.passphrase is not None:
            print("Warning: other users can see the passphrase; use PASSPHRASE or the prompt.", file=sys.stderr)
            return os.fsencode(options.passphrase)
        if "PASSPHRASE" in os.environ:
            return os.fsencode(os.environ["PASSPHRASE"])
        from pantry.cli._passphrase import asker

        return asker(from_stdin=False)(key)

    def work() -> int:
        from pantry.operations.flatpacks import compress_and_sign as run

        run(options.input, options.output, options.signed, options.private_key, options.hash_size, ask)
        print(f"Compressed: {printable(str(options.output))}\nSigned: {printable(str(options.signed))}")
        return 0

    _exit_with(work)


def verify_signed() -> None:
    """Say whether a public key signed a legacy file; the exit code is 0 only then."""
    parser = argparse.ArgumentParser(
        prog="verify-signed-fpk", description="Verify a signed file in the flatpack format of 2023."
    )
    parser.add_argument("-s", "--signed_file", required=True, type=Path, help="the signed file")
    parser.add_argument("-p", "--public_key", required=True, type=Path, help="public key (RSA, PEM)")
    options = parser.parse_args()

    def work() -> int:
        from pantry.core.errors import VerificationError
        from pantry.operations.flatpacks import verify_signed as run

        verdict = run(options.signed_file, options.public_key)
        print(printable(verdict.sentence), file=sys.stdout if verdict.ok else sys.stderr)
        return 0 if verdict.ok else VerificationError.exit_code

    _exit_with(work)


def _exit_with(work: Callable[[], int]) -> None:
    import typer

    from pantry.core.errors import INTERRUPTED_EXIT_CODE, PantryError

    try:
        code = work()
    except PantryError as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED_EXIT_CODE
    sys.exit(code)
