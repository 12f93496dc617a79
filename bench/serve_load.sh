#!/usr/bin/env bash
# serve_load.sh BASE.fvecs QUERIES.fvecs [SECONDS] [FOLDER] - load on `kith serve` (docs/perf.md): searches at 16 connections, as JSON
# and as raw floats; then the same while 1,000 slow connections are open. Needs wrk, python3, kith in the PATH. FOLDER keeps the collection
# for the next time.
#
# For each: requests a second, p50 and p99, errors, processor time of the server a request, and of that what is not the
# search itself (HTTP, JSON, reading the rows), memory before and after.
set -euo pipefail
base=$(realpath "$1") queries=$(realpath "$2") seconds=${3:-60} folder=${4:-$(mktemp -d)}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
cd "$folder"
if [ ! -e load.kith ]; then
    kith import load.kith "$base" --batch 20000 --fold --quiet
fi
rm -f address
kith serve load.kith --port 0 --quiet >address 2>errors &
pid=$!
trap 'kill "$pid" 2>/dev/null || true' EXIT
for _ in {1..200}; do
    [ ! -s address ] || break
    sleep 0.05
done
url=$(head -n 1 address)

cpu() { awk '{print ($14 + $15) / '"$(getconf CLK_TCK)"'}' "/proc/$pid/stat"; }
searching() { curl -s "${url}metrics" | awk '/^kith_search_cpu_seconds_total/ {print $2}'; }
memory() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status"; }

load() { # load NAME CONNECTIONS SECONDS BODY PAYLOAD
    local cpu0 search0 memory0 cpu1 search1 result
    cpu0=$(cpu) search0=$(searching) memory0=$(memory)
    result=$(QUERIES=$queries BODY=$4 wrk -t 1 -c "$2" -d "$3" --latency -s "$here/serve_load.lua" "${url}v1/collections/load/search?k=10&payload=$5" | grep '^RESULT')
    cpu1=$(cpu) search1=$(searching)
    echo "$1 $result $cpu0 $cpu1 $search0 $search1 $memory0 $(memory)" | awk '{
        printf "%-18s %8.0f q/s  p50 %6.2f ms  p99 %6.2f ms (%.1f x)  errors %d  CPU/request %6.1f us, own %5.1f us  memory %d -> %d MB\n",
            $1, $3 / ($4 / 1e6), $6 / 1e3, $7 / 1e3, $7 / $6, $5, ($9 - $8) / $3 * 1e6, ($9 - $8 - $11 + $10) / $3 * 1e6, $12, $13}'
}

load warm-up 16 3 json 1
load JSON 16 "$seconds" json 1
load JSON-no-payload 16 "$seconds" json 0
load raw-float32 16 "$seconds" raw 0
load JSON-8-alone 8 10 json 1
python3 "$here/serve_slow.py" "$url" 1000 $((seconds + 10)) &
slow=$!
sleep 4
load JSON-8-and-1000 8 "$seconds" json 1
wait "$slow"
