#!/usr/bin/env bash
# kith serve: the whole interface, each answer held against the OpenAPI document; roles; every route without and with a wrong
# token; hostile requests, names and bodies; slow connections.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
fail() { echo "serve_api.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }
tools=$KITH_BUILD/bin
cd "$scratch"
mkdir pictures served
"$tools/make_pictures" good pictures 12 9
cp "$(find pictures -name '*.jpg' | sort | head -n 1)" pictures/again.jpg
kith index pictures -o served/album.kith --descriptor plain --quiet >/dev/null
picture=$(find pictures -name '*.jpg' | sort | head -n 1)

# shellcheck source=tests/e2e/support/server.sh
source "${KITH_SOURCE:?}/tests/e2e/support/server.sh"

serve served --write
python3 "$here/serve_api.py" "$base" album "$picture"
stop

# What was made is there at the next start, and the program reads it.
kith count served/cities.kith >/dev/null
for role in read write admin; do
    kith serve --make-token --role "$role" --quiet >made
    sed -n 1p made >"token.$role"
    sed -n 2p made >>tokens
done
serve served --token-file tokens --max-body 1 --max-json-depth 8 --max-json-parts 5000 --max-dim 100 --max-batch 10 --max-k 100 --head-time 1
python3 "$here/serve_hostile.py" "$base" "$(cat token.read)" "$(cat token.write)" "$(cat token.admin)" "$pid"
stop
[ "$(find served -maxdepth 1 -name '*.kith' | sort | tr '\n' ' ')" = 'served/album.kith served/cities.kith ' ] || fail "files: $(find .)"

# An empty folder is served, and filled.
mkdir empty
serve empty --write
curl -sf -X PUT -d '{"dim":2}' "$base/v1/collections/new" >/dev/null
curl -sf -d '{"rows":[{"vector":[1,2]}]}' "$base/v1/collections/new/rows" >/dev/null
stop
[ "$(kith count empty/new.kith)" = 1 ] || fail "the row is not there"
# One that is written to is folded into its file when the server ends: no log is left.
[ ! -e empty/new.kith-wal ] || fail "a log is left"

echo "serve_api.sh: all good"
