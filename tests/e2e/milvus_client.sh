#!/usr/bin/env bash
# Every method of the published client of Milvus' REST interface against `kith serve`. Skips aloud where there is no npm, or
# no registry to be reached. The client is installed once, below the build folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
client='@zilliz/milvus2-sdk-node@3.0.6'
for tool in node npm; do
    if ! command -v "$tool" >/dev/null; then echo "milvus_client.sh: skipped: no $tool"; exit 0; fi
done
scratch=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # a disk would only be waited for: durability is not tested here
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
fail() { echo "milvus_client.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }

case $KITH_BUILD in # builds of one tree share it
"$KITH_SOURCE"/build/*) modules=$KITH_SOURCE/build/npm ;;
*) modules=$KITH_BUILD/npm ;;
esac
mark=$modules/installed-${client##*@}
if [ ! -e "$mark" ]; then
    mkdir -p "$modules"
    if ! timeout 300 npm install --prefix "$modules" --no-package-lock --no-save --no-audit --no-fund --ignore-scripts \
        --loglevel=error "$client" >"$scratch/npm.log" 2>&1; then
        echo "milvus_client.sh: skipped: npm cannot install $client: $(tail -n 3 "$scratch/npm.log")"
        exit 0
    fi
    touch "$mark"
fi

# serve FOLDER OPTIONS...: start a server on a free port; sets `base`.
serve() {
    local folder=$1
    shift
    mkdir -p "$folder"
    : >"$folder.address"
    kith serve "$folder" --port 0 --quiet "$@" >"$folder.address" 2>"$folder.errors" &
    pids+=("$!")
    for _ in {1..200}; do
        base=$(head -n 1 "$folder.address")
        base=${base%/}
        [ -z "$base" ] || return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.05
    done
    fail "it does not start: $(cat "$folder.errors")"
}

serve "$scratch/open" --write
open=$base
kith serve --make-token --role admin --quiet >"$scratch/made"
tail -n 1 "$scratch/made" >"$scratch/tokens"
serve "$scratch/guarded" --token-file "$scratch/tokens"
TOKEN=$(head -n 1 "$scratch/made") NODE_PATH=$modules/node_modules node "$here/milvus_client.js" "$open" "$scratch/open" "$base"
for pid in "${pids[@]}"; do
    kill -TERM "$pid"
    wait "$pid" || fail "status $? after SIGTERM: $(cat "$scratch"/*.errors)"
done
pids=()
