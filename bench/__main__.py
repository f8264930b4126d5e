"""`python -m bench`: the measurements of the service, one table after the other (`make bench`)."""

import subprocess
import sys

COMMANDS = ("bench.start", "bench.gateway", "bench.proxy", "bench.http_stack", "bench.native")

if __name__ == "__main__":
    for command in COMMANDS:
        subprocess.run([sys.executable, "-m", command], check=True)
