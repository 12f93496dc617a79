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
python3 "$here/serve_api.py" "$base" album "$picture" "$pid"
stop

# What was made is there at the next start, and the program reads it.
kith count served/cities.kith >/dev/null
for role in read write admin; do
    kith serve --make-token --role "$role" --quiet >made
    sed -n 1p made >"token.$role"
    sed -n 2p made >>tokens
done
serve served --token-file tokens --max-body 1 --max-answer 1 --max-json-depth 8 --max-json-parts 5000 --max-dim 100 --max-batch 10 --max-k 100 --head-time 1
python3 "$here/serve_hostile.py" "$base" "$(cat token.read)" "$(cat token.write)" "$(cat token.admin)" "$pid"
stop
[ "$(find served -maxdepth 1 -name '[!.]*.kith' | sort | tr '\n' ' ')" = 'served/album.kith served/cities.kith ' ] || fail "files: $(find .)"

# An empty folder is served, and filled.
mkdir empty
serve empty --write
curl -sf -X PUT -d '{"dim":2}' "$base/v1/collections/new" >/dev/null
curl -sf -d '{"rows":[{"vector":[1,2]}]}' "$base/v1/collections/new/rows" >/dev/null
stop
[ "$(kith count empty/new.kith)" = 1 ] || fail "the row is not there"
# One that is written to is folded into its file when the server ends: no log is left.
[ ! -e empty/new.kith-wal ] || fail "a log is left"

# A file whose name is no UTF-8 is left out, aloud, and the others are served; a name that kith would not give has snapshots, too.
mkdir named
kith_file=$(printf 'named/caf\351.kith')
cp empty/new.kith "$kith_file"
cp empty/new.kith 'named/My Photos.kith'
serve named --write
[ "$(curl -sf "$base/v1/collections" | python3 -c 'import json, sys; print([c["name"] for c in json.load(sys.stdin)["collections"]])')" = "['My Photos']" ] || fail "collections"
[ "$(grep -c 'not UTF-8: caf\\xe9.kith' errors)" = 1 ] || fail "it does not say what it leaves out: $(cat errors)"
curl -sf -d '{"name":"first"}' "$base/v1/collections/My%20Photos/snapshots" >/dev/null || fail "no snapshot"
for _ in {1..100}; do
    curl -sf "$base/v1/collections/My%20Photos/snapshots" >body
    if grep -q '"first"' body; then break; fi
    sleep 0.05
done
grep -q '"first"' body || fail "$(cat body)"
# Snapshots that somebody else left are neither taken over by a rename nor lost.
mkdir -p named/snapshots/old
touch named/snapshots/old/kept.kith
[ "$(curl -s -o body -w '%{http_code}' -X PATCH -d '{"name":"old"}' "$base/v1/collections/My%20Photos")" = 409 ] || fail "$(cat body)"
curl -sf "$base/v1/collections/My%20Photos/snapshots" | grep -q '"first"' || fail "its snapshots are gone"
[ -e named/snapshots/old/kept.kith ] || fail "those of the older one are gone"
stop
if kith serve "$kith_file" --port 0 --quiet 2>errors; then fail "a name that is no UTF-8 is served"; fi
grep -q 'not UTF-8' errors || fail "$(cat errors)"

# A commit that does not reach the disk fails, and its handle with it; the next write, when the disk can be written again, has a new one.
trap '' XFSZ # beyond the limit of a file's size a write fails with EFBIG
serve empty --write
status() { curl -s -o body -w '%{http_code}' "$@"; }
limit() { python3 -c 'import resource, sys; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))' "$pid" "$1"; }
row() { status -d '{"rows":[{"vector":[3,4]}]}' "$base/v1/collections/new/rows"; }
partition() { status -X PUT "$base/v1/collections/new/partitions/$1"; }
[ "$(row)" = 200 ] || fail "a row: $(cat body)"
[ "$(partition one)" = 204 ] || fail "a partition: $(cat body)"
# What /metrics counts never goes back, and errors are among the requests.
counted() { curl -sf "$base/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
batches=$(counted kith_write_batches_total)
commits=$(counted kith_write_commits_total)
refused=$(counted 'kith_requests_total{class="4xx"}')
failed=$(counted 'kith_requests_total{class="5xx"}')
[ "$batches $commits" = '1 1' ] || fail "$batches batches, $commits commits"
limit "$(stat -c %s empty/new.kith-wal)"
for _ in 1 2; do
    [ "$(row)" = 500 ] || fail "a row: $(cat body)"
    [ "$(partition two)" = 500 ] || fail "a partition: $(cat body)"
done
if grep -q empty body; then fail "it names the folder: $(cat body)"; fi
# There is no --log: what the answers do not say is on standard error.
[ "$(grep -c '"status":500.*"error":"' errors)" = 4 ] || fail "the causes are not told: $(cat errors)"
limit -1
[ "$(row)" = 200 ] || fail "a row: $(cat body)"
[ "$(status -d '{"rows":5}' "$base/v1/collections/new/rows")" = 400 ] || fail "no rows: $(cat body)"
[ "$(counted kith_write_batches_total)" = $((batches + 1)) ] || fail "$(counted kith_write_batches_total) batches"
[ "$(counted kith_write_commits_total)" = $((commits + 1)) ] || fail "$(counted kith_write_commits_total) commits"
[ "$(counted 'kith_requests_total{class="4xx"}')" = $((refused + 1)) ] || fail "not one more was refused"
[ "$(counted 'kith_requests_total{class="5xx"}')" = $((failed + 4)) ] || fail "not four more failed"
[ "$(partition two)" = 204 ] || fail "a partition: $(cat body)"
stop
[ "$(kith count empty/new.kith)" = 3 ] || fail "$(kith count empty/new.kith) rows"

echo "serve_api.sh: all good"
