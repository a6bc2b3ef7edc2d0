#!/bin/sh
# The demo behind `make run`. DEMO_TLS=1: its services talk TLS. DEMO_SECONDS=N ends it by itself.
root=$(cd "$(dirname "$0")/../.." && pwd)
exec python3 "$root/deploy/demo/demo.py" "$root/build/olly"
