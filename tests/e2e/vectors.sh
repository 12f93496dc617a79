#!/usr/bin/env bash
# build, query, gt, bench, families over vector files, as a user runs them; and every way in which they can be refused.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
fail() { echo "vectors.sh: $*" >&2; exit 1; }
make_vectors=${KITH_BUILD:?}/bin/make_vectors

# shellcheck source=tests/e2e/support/commands.sh
source "${KITH_SOURCE:?}/tests/e2e/support/commands.sh"

# prints PATTERN COMMAND...: it succeeds, and a line that it prints matches. (Not a pipe into grep -q: that ends at the
# first match, and the writer would die of it.)
prints() {
    local pattern=$1
    shift
    "$@" >printed || return 1
    grep -qE -- "$pattern" printed
}

"$make_vectors" 2000 16 1 base.fvecs 50
"$make_vectors" 100 16 2 query.fvecs 50
"$make_vectors" 10 8 3 narrow.fvecs

# Flat finds each row first, at distance 0.
kith build Flat base.fvecs -o flat.kidx >build.out
grep -q 'flat.kidx: Flat, 2,000 rows of 16, l2' build.out || fail "build said: $(cat build.out)"
kith query flat.kidx base.fvecs -k 1 --limit 50 | awk 'NR > 1 && ($1 != $3 || $2 != 1 || $4 != 0) { exit 1 }' ||
    fail "a row is not its own nearest"
[ "$(kith query flat.kidx base.fvecs -k 3 --limit 50 | wc -l)" = 151 ] || fail "not three results a query"
kith query flat.kidx query.fvecs -k 2 --json --limit 1 >one.json
grep -qE '^\{"query":0,"results":\[\{"rank":1,"id":[0-9]+,"distance":[0-9.e-]+,"score":[0-9.e-]+\},\{"rank":2,.*\],"complete":true\}$' one.json ||
    fail "JSON: $(cat one.json)"
# More than there are: all rows, and the answer is complete.
[ "$(kith query flat.kidx query.fvecs -k 3000 --json --limit 1 | grep -o '"rank"' | wc -l)" = 2000 ] || fail "k > n"

# Exact neighbours: by threads alike, recall 1 for Flat, by both definitions.
kith gt base.fvecs query.fvecs -k 20 -o gt.ivecs --quiet
kith gt base.fvecs query.fvecs -k 20 -o gt2.ivecs --threads 2
cmp gt.ivecs gt2.ivecs || fail "gt depends on the threads"
[ "$(stat -c %s gt.ivecs)" = $((100 * (20 + 1) * 4)) ] || fail "gt.ivecs has another size"
prints '^recall@10 1.0000 \(by distance\)' kith query flat.kidx query.fvecs --gt gt.ivecs --base base.fvecs || fail "recall of Flat"
prints '"recall":1.0,"recall_by":"id"' kith query flat.kidx query.fvecs --gt gt.ivecs -k 20 --json || fail "recall of Flat by id"
kith query flat.kidx query.fvecs -k 20 -o answers.ivecs
cmp gt.ivecs answers.ivecs || fail "query -o and gt differ"

# The graph of neighbours: as gt finds them, each row itself left out; by threads alike.
kith knng base.fvecs -k 9 -o knng.ivecs --check 200 --quiet >knng.out
grep -q 'knng.ivecs: 9 neighbours of 2,000 rows of 16, l2' knng.out || fail "knng said: $(cat knng.out)"
awk '/^recall@9/ && $2 >= 0.97 { good = 1 } END { exit !good }' knng.out || fail "knng found too little: $(cat knng.out)"
kith knng base.fvecs -k 9 -o knng2.ivecs --threads 2 --json >knng.json
cmp knng.ivecs knng2.ivecs || fail "knng depends on the threads"
grep -qE '^\{"file":"knng2.ivecs","n":2000,"dim":16,"k":9,"metric":"l2","rounds":[0-9]+,"seconds":[0-9.e-]+,"cpu_seconds":[0-9.e-]+,"recall":null\}$' knng.json ||
    fail "JSON: $(cat knng.json)"
[ "$(stat -c %s knng.ivecs)" = $((2000 * (9 + 1) * 4)) ] || fail "knng.ivecs has another size"
kith knng base.fvecs -k 9 -o knng3.ivecs --limit 300 --check 300 --json | grep -q '"recall":1.0' || fail "knng of few rows"

# Centroids: by threads alike; no cell above the bound; refused are bounds below the mean.
kith kmeans base.fvecs -k 20 -o centroids.fvecs >kmeans.out
grep -q 'centroids.fvecs: 20 centroids of 2,000 rows of 16' kmeans.out || fail "kmeans said: $(cat kmeans.out)"
kith kmeans base.fvecs -k 20 -o centroids2.fvecs --threads 2 --assignment cells.ivecs -q
cmp centroids.fvecs centroids2.fvecs || fail "kmeans depends on the threads"
[ "$(stat -c %s cells.ivecs)" = $((2000 * 2 * 4)) ] || fail "cells.ivecs has another size"
kith kmeans base.fvecs -k 20 -o balanced.npy --max-cell 1.6 --json >kmeans.json
awk -F'"largest_cell":' '{ split($2, a, ","); exit !(a[1] <= 160) }' kmeans.json || fail "a cell is too large: $(cat kmeans.json)"
prints 'float32' kith info balanced.npy || fail "balanced.npy is not float32"
prints '"iterations":30' kith kmeans base.fvecs -k 20 -o x.fvecs --mini-batch 200 --iterations 30 --spherical --init plusplus --json ||
    fail "mini-batches"

# An inverted file that has grown: what info tells, and compact.
kith build IVF20,Flat base.fvecs -o grown.kidx -q >build.out
prints '^rows of a cell *100.0 on average' kith info grown.kidx || fail "info says nothing of cells: $(kith info grown.kidx)"
prints '"cells":\{"cells":20,"mean_rows":100.0,"largest":[0-9]+,"largest_over_mean":[0-9.]+,"empty":0,"spread_trained":[0-9.]+,"spread_now":[0-9.]+,"drift":[0-9.]+,"advice":"none"\}' \
    kith info grown.kidx --json || fail "info --json: $(kith info grown.kidx --json)"
kith query grown.kidx query.fvecs -k 10 --set nprobe=40 -o before.ivecs -q
kith compact grown.kidx --max-cell 1.5 --json >compact.json
grep -qE '^\{"file":"grown.kidx","spec":"IVF[0-9]+,Flat","rows":2000,"cells_before":20,"cells":[0-9]+,' compact.json || fail "JSON: $(cat compact.json)"
awk -F'"largest":' '{ split($2, a, ","); exit !(a[1] <= 150) }' compact.json || fail "a cell is too large: $(cat compact.json)"
kith verify grown.kidx >verify.out || fail "verify: $(cat verify.out)"
kith query grown.kidx query.fvecs -k 10 --set nprobe=400 -o after.ivecs -q
cmp before.ivecs after.ivecs || fail "splitting changed answers"
kith build IVF40_HNSW4,Flat base.fvecs -o graph.kidx -q >build.out
prints '^recall@10 1.0000' kith query graph.kidx query.fvecs --gt gt.ivecs --set exact=1 || fail "exact through a graph of cells"

# Rows of bits: eight to a byte of the file; the ground truth is that of Hamming distances, and BFlat finds it.
kith convert base.fvecs base.u8bin --signs -q
kith convert query.fvecs query.u8bin --signs -q
[ "$(stat -c %s base.u8bin)" = $((8 + 2000 * 2)) ] || fail "16 signs are not two bytes"
kith gt base.u8bin query.u8bin -k 10 -o gt-hamming.ivecs --metric hamming
kith build BFlat base.u8bin -o bits.kidx --metric hamming >build.out
grep -q 'BFlat, 2,000 rows of 16, hamming' build.out || fail "build said: $(cat build.out)"
kith query bits.kidx query.u8bin -o answers.ivecs
cmp gt-hamming.ivecs answers.ivecs || fail "BFlat and gt differ"
prints '^recall@10 1.0000 \(by distance\)' kith query bits.kidx query.u8bin --gt gt-hamming.ivecs --base base.u8bin || fail "recall of BFlat"
prints '"metric":"hamming".*"recall":1.0' kith bench base.u8bin query.u8bin gt-hamming.ivecs --spec BFlat --metric hamming --json || fail "bench of BFlat"
refuse 1 'metric is l2, which BFlat does not know' kith build BFlat base.fvecs -o refused.kidx
refuse 1 'metric is hamming, which Flat does not know' kith build Flat base.u8bin -o refused.kidx --metric hamming
refuse 1 'base.fvecs: row 0, component 0 is .* which uint8' kith build BFlat base.fvecs -o refused.kidx --metric hamming

# Every metric builds and is exact in Flat.
for metric in l2 dot cosine l1; do
    kith gt base.fvecs query.fvecs -k 10 -o gt-$metric.ivecs --metric $metric
    kith bench base.fvecs query.fvecs gt-$metric.ivecs --spec Flat --metric $metric --json >bench.json
    grep -qE '"metric":"'$metric'".*"recall":(1.0|0.99[0-9]*)' bench.json || fail "Flat by $metric: $(cat bench.json)"
done

# The same bytes from a base read block by block, where the sample is the base.
for spec in IVF32,PQ8,RFlat SQ8 IVF32,RaBitQ; do
    kith build $spec base.fvecs -o a.kidx -q >/dev/null
    kith build $spec base.fvecs -o b.kidx --block 300 --json >block.json
    cmp a.kidx b.kidx || fail "$spec depends on the blocks it is read by"
    prints '"n":2000,' cat block.json || fail "--block said: $(cat block.json)"
done
kith build IVF8,Flat base.fvecs -o a.kidx --block 300 --limit 700 -q >/dev/null
prints '^rows *700' kith info a.kidx || fail "--block and --limit: $(kith info a.kidx)"
refuse 2 'block: not with --metric hamming' kith build BFlat base.u8bin -o refused.kidx --metric hamming --block 9

# The same bytes with any number of threads; other bytes with another seed.
for spec in Flat IVF32,Flat PQ8 IVF32,PQ8 IVF32,PQ8,RFlat; do
    kith build $spec base.fvecs -o a.kidx --threads 1 >/dev/null
    kith build $spec base.fvecs -o b.kidx --threads 2 >/dev/null
    kith build $spec base.fvecs -o b3.kidx --threads 3 >/dev/null
    cmp a.kidx b.kidx || fail "$spec depends on the number of threads"
    cmp a.kidx b3.kidx || fail "$spec depends on the number of threads"
done
kith build IVF32,PQ8 base.fvecs -o c.kidx --seed 2 >/dev/null
kith build IVF32,PQ8 base.fvecs -o d.kidx >/dev/null
if cmp -s c.kidx d.kidx; then fail "the seed does nothing"; fi

# tune: an index for a recall, which a search may then ask for; one that is there is calibrated; refusals are clear.
kith tune base.fvecs query.fvecs --target-recall 0.9 -o tuned.kidx --plot tuned.svg -q >tune.txt || fail "tune: $(cat tune.txt)"
grep -q 'tuned.kidx: .*recall 0.9 by' tune.txt || fail "tune does not say what it chose: $(cat tune.txt)"
grep -q '<svg' tuned.svg || fail "tune draws nothing"
# Its front: ever larger, ever faster.
awk '/^front of round/ { on = 1; rows = 0; next } on && $1 == "SPEC" { next } on && NF == 4 {
        if (rows && ($2 <= bytes || $3 <= qps)) bad = 1
        bytes = $2; qps = $3; rows++ } END { exit bad || !rows }' tune.txt || fail "no front, or not one: $(cat tune.txt)"
kith tune base.fvecs query.fvecs --target-recall 0.9 --limit 1000 --json -q >tune.jsonl || fail "tune --json"
grep -q '^{"front":true,"round":1,"rows":1000,"spec":"[^"]*","bytes_per_row":[0-9.]*,"qps":[0-9.]*,"recall":[0-9.]*}$' tune.jsonl ||
    fail "tune --json prints no front: $(cat tune.jsonl)"
kith query tuned.kidx query.fvecs -k 10 --set target_recall=0.9 -q >/dev/null || fail "target_recall of a tuned index"
kith build IVF32,Flat base.fvecs -o plain.kidx -q >/dev/null
kith build IVF16,PQ8 base.fvecs -o asked.kidx --calibrate query.fvecs -q >/dev/null || fail "build --calibrate"
kith query asked.kidx query.fvecs -k 10 --set target_recall=0.3 -q >/dev/null || fail "target_recall as it was built"
refuse 2 'kith tune' kith build IVF16,Flat base.fvecs -o asked.kidx --calibrate query.fvecs --block 500 -q
refuse 1 'not calibrated' kith query plain.kidx query.fvecs --set target_recall=0.9
kith tune plain.kidx query.fvecs --target-recall 0.95 --json -q | grep -q '"reached":true' || fail "tune of an index"
kith query plain.kidx query.fvecs --set target_recall=0.95 -q >/dev/null || fail "target_recall of a calibrated index"
refuse 1 'no index reaches' kith tune base.fvecs query.fvecs --target-recall 0.9 --max-bytes 10 -q
# Codes alone: the truth comes from outside, and the message names how.
kith build IVF32,SQ8 base.fvecs -o codes.kidx -q >/dev/null
refuse 1 '--base FILE.*--gt FILE' kith tune codes.kidx query.fvecs --target-recall 0.5 -q
kith tune codes.kidx query.fvecs --target-recall 0.5 --base base.fvecs --json -q | grep -q '"reached":true' || fail "tune --base"
kith tune codes.kidx query.fvecs --target-recall 0.5 --gt gt.ivecs --json -q | grep -q '"reached":true' || fail "tune --gt"
refuse 2 'one of them' kith tune codes.kidx query.fvecs --gt gt.ivecs --base base.fvecs
refuse 2 'are for an index' kith tune base.fvecs query.fvecs --gt gt.ivecs
# A limit that the codes of few bits keep: less than half of what the rows take.
kith tune base.fvecs query.fvecs --target-recall 0.3 --max-bytes "$(($(wc -c <base.fvecs) * 2 / 5))" -q >small.txt || fail "tune --max-bytes: $(cat small.txt)"
refuse 2 'target-recall' kith tune base.fvecs query.fvecs --target-recall 1.5

# bench: a line an operating point; more cells, more recall; all of them, exact.
kith bench base.fvecs query.fvecs gt.ivecs --spec IVF32,Flat --sweep nprobe=1,4,32 --json --index kept.kidx >bench.json
[ "$(wc -l <bench.json)" = 3 ] || fail "bench printed $(wc -l <bench.json) lines"
for key in spec pattern params n dim metric k build_seconds build_cpu_seconds train_seconds bytes_per_vector peak_rss_bytes distortion \
    distortion_relative recall qps mean_us p50_us p99_us scored threads simd; do
    if grep -v "\"$key\":" bench.json; then fail "bench does not print $key"; fi
done
grep -o '"recall":[0-9.]*' bench.json | cut -d: -f2 | awk '$1 < last { exit 1 } { last = $1 } END { exit last != 1 }' ||
    fail "recall over nprobe: $(cat bench.json)"
cp kept.kidx before.kidx
kith bench base.fvecs query.fvecs gt.ivecs --spec IVF32,Flat --set nprobe=32 --json --index kept.kidx --quiet >again.json
grep -q '"build_seconds":null.*"recall":1.0' again.json || fail "the kept index: $(cat again.json)"
cmp kept.kidx before.kidx || fail "the kept index was changed"
# A short name is that of the index that it made; rows of another file are not those of the index.
for _ in 1 2; do kith bench base.fvecs query.fvecs gt.ivecs --spec HNSW8 --index short.kidx --sweep ef=20 -q >short.txt || fail "bench --index by a short spec"; done
"$make_vectors" 2000 16 9 other.fvecs 50
refuse 1 'other data than other.fvecs' kith bench other.fvecs query.fvecs gt.ivecs --spec HNSW8 --index short.kidx --sweep ef=20 -q
prints '^ +1.0000 +[0-9]+ +- +- +[0-9]+ +nprobe=32$' \
    kith bench base.fvecs query.fvecs gt.ivecs --spec IVF32,Flat --sweep nprobe=1,32 --threads 2 --batch 0 || fail "bench as a table"

# bench over specs: braces stand for each of their parts; more bytes, less distortion; a sweep that only some know; four diagrams.
kith bench base.fvecs query.fvecs gt.ivecs -s 'IVF{8,16},PQ{2,4,8}' -s '{Flat,SQ8}' --sweep nprobe=2,8 --json -q --plot codes >specs.jsonl
[ "$(wc -l <specs.jsonl)" = 14 ] || fail "12 points of 6 specs and 2 of 2: $(cat specs.jsonl)"
[ "$(grep -c '"pattern":"IVF{8,16},PQ{2,4,8}"' specs.jsonl)" = 12 ] || fail "bench does not say which --spec a line is of"
grep '"spec":"IVF16,PQ' specs.jsonl | grep '"nprobe":8' | sed -E 's/.*"distortion_relative":([0-9.e-]+).*/\1/' |
    awk '$1 >= 1 || (NR > 1 && $1 >= last) { bad = 1 } { last = $1 } END { exit bad || NR != 3 }' || fail "distortion over m: $(cat specs.jsonl)"
grep '"spec":"Flat"' specs.jsonl | grep -q '"distortion":0.0,' || fail "Flat gives its rows back"
for name in recall-bytes recall-time distortion-bytes distortion-time; do
    grep -q '</svg>' codes-$name.svg || fail "bench does not draw $name"
done
kith plot specs.jsonl --by pattern -x bytes_per_vector -y distortion -o patterns.svg -q
[ "$(grep -c '<polyline' patterns.svg)" = 2 ] || fail "not a curve for each pattern"
kith bench base.fvecs query.fvecs gt.ivecs -s 'PQ{4,8}' -q >specs.txt
grep -qE '^PQ8 over .* distortion [0-9.]+ \([0-9.]+ of the variance\)' specs.txt || fail "distortion in the table: $(cat specs.txt)"
refuse 2 'braces' kith bench base.fvecs query.fvecs gt.ivecs -s 'PQ{4,8' -q
refuse 2 'braces' kith bench base.fvecs query.fvecs gt.ivecs -s 'PQ{4,{8}}' -q
refuse 2 'keeps one index' kith bench base.fvecs query.fvecs gt.ivecs -s 'PQ{4,8}' --index x.kidx -q
refuse 1 'Nonsense' kith bench base.fvecs query.fvecs gt.ivecs -s '{PQ4,Nonsense}' -q
refuse 1 'no parameter' kith bench base.fvecs query.fvecs gt.ivecs -s 'PQ{4,8}' --sweep nprobe=1 -q

# families: every part, and the parameters of a spec.
prints '^IVF<n>' kith families || fail "families does not list IVF"
prints '^nprobe +search' kith families IVF32,PQ8 || fail "families SPEC does not list nprobe"
prints '"name":"nprobe"' kith families --json || fail "families --json"
refuse 1 '"QG" at position 0 lacks its number: QG<R>' kith families QG
refuse 1 'allowed: .*\.\.\.$' kith families Foo

# Refused: wrong usage is 2, what fails is 1; nothing is left behind.
refuse 2 'output' kith build Flat base.fvecs
refuse 2 'neighbours' kith query flat.kidx query.fvecs -k 0
refuse 2 'not a whole number' kith query flat.kidx query.fvecs -k ten
refuse 2 'name=value' kith build IVF8,Flat base.fvecs -o x.kidx --set nonsense
refuse 2 'not a number' kith build IVF8,Flat base.fvecs -o x.kidx --set iterations=many
refuse 1 'missing.fvecs' kith build Flat missing.fvecs -o x.kidx
refuse 1 'nowhere' kith build Flat base.fvecs -o nowhere/x.kidx
refuse 1 'Nonsense' kith build Nonsense base.fvecs -o x.kidx
refuse 1 'Nonsense' kith build Flat,Nonsense base.fvecs -o x.kidx
refuse 1 'divisor' kith build PQ7 base.fvecs -o x.kidx
refuse 1 'nonsense' kith build IVF8,Flat base.fvecs -o x.kidx --set nonsense=1
refuse 1 '2000|5000' kith build IVF5000,Flat base.fvecs -o x.kidx
refuse 1 'nprobe' kith query kept.kidx query.fvecs --set nprobe=0
refuse 1 'nonsense' kith query kept.kidx query.fvecs --set nonsense=1
refuse 1 'dimension' kith query flat.kidx narrow.fvecs
refuse 1 'dimension' kith gt base.fvecs narrow.fvecs -k 1 -o x.ivecs
refuse 1 'rows' kith gt narrow.fvecs narrow.fvecs -k 11 -o x.ivecs
refuse 1 'rows' kith knng narrow.fvecs -k 10 -o x.ivecs
refuse 2 'metric' kith knng narrow.fvecs -k 1 -o x.ivecs --metric hamming
refuse 2 'output' kith knng narrow.fvecs -k 1
refuse 2 'below 1' kith kmeans base.fvecs -o x.fvecs --max-cell 0.5
refuse 1 'rows' kith kmeans base.fvecs -k 3000 -o x.fvecs
refuse 2 'below 1.5' kith compact grown.kidx --max-cell 1.2
refuse 1 'no cells' kith compact flat.kidx
refuse 1 'base.fvecs' kith query base.fvecs query.fvecs
refuse 1 'missing.kidx' kith query missing.kidx query.fvecs
refuse 1 'set: nprobe is 0' kith query kept.kidx query.fvecs --set nprobe=0
refuse 1 'holds' kith bench base.fvecs query.fvecs gt.ivecs --spec Flat -k 50
refuse 1 'holds' kith bench base.fvecs query.fvecs gt.ivecs --spec Flat --index kept.kidx
: >empty.fvecs
refuse 1 'empty.fvecs' kith build Flat empty.fvecs -o x.kidx
for size in 3 4 67 68 100 135999; do
    head -c $size base.fvecs >cut.fvecs
    [ $size = 68 ] || refuse 1 'cut.fvecs' kith build Flat cut.fvecs -o x.kidx
done
{ printf '\x10\x00\x00\x00'; head -c 60 /dev/zero; printf '\x00\x00\xc0\x7f'; } >nan.fvecs
refuse 1 'finite|nan' kith build Flat nan.fvecs -o x.kidx
{ printf '\xff\xff\xff\x7f'; head -c 64 /dev/zero; } >lying.fvecs
refuse 1 'lying.fvecs' kith build Flat lying.fvecs -o x.kidx
for size in 0 1 8 63 64 100 1000 $(($(stat -c %s kept.kidx) - 1)); do
    head -c "$size" kept.kidx >cut.kidx
    refuse 1 'cut.kidx' kith query cut.kidx query.fvecs
done
if [ -e x.kidx ] || [ -e x.ivecs ]; then fail "a refused command left a file"; fi

# A disk that fills up: the old file stands, no half-written one stays.
cp flat.kidx old.kidx
( trap '' XFSZ; ulimit -f 8; refuse 1 'old.kidx' kith build Flat base.fvecs -o old.kidx )
cmp flat.kidx old.kidx || fail "a failed build damaged the old file"
[ "$(find . -name '*old.kidx*' | wc -l)" = 1 ] || fail "a failed build left files: $(ls)"

# Interrupted: status 1, one line, no file.
"$make_vectors" 60000 64 4 large.fvecs
kith build IVF1024,Flat large.fvecs -o interrupted.kidx --threads 1 >out 2>err &
job=$!
sleep 0.5
kill -INT $job
status=0
wait $job || status=$?
if [ $status != 1 ] || [ "$(wc -l <err)" != 1 ] || [ -e interrupted.kidx ]; then fail "interrupted: status $status, $(cat err)"; fi
echo "build, query, gt, bench, families"
