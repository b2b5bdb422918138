#!/bin/sh
# npm start [-- OPTIONS]: sets up, builds, and becomes the daemon.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh
exec bin/longshore daemon "$@"
