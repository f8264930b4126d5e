#!/bin/sh
# Trains with the data and settings of this folder.
set -eu
cd "$(dirname "$0")"
exec pantry train . "$@"
