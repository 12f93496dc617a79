#!/usr/bin/env bash
# import, export, get, count, delete and search over the rows of a collection, with filters; an import that is killed goes on.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
fail() { echo "rows.sh: $*" >&2; exit 1; }
make_vectors=${KITH_BUILD:?}/bin/make_vectors

# shellcheck source=tests/e2e/support/commands.sh
source "${KITH_SOURCE:?}/tests/e2e/support/commands.sh"

"$make_vectors" 3000 8 1 base.fvecs 20
"$make_vectors" 5 8 2 query.fvecs 20
"$make_vectors" 5 4 2 narrow.fvecs
for ((i = 0; i < 3000; i++)); do echo "{\"id\":$((i + 100)),\"n\":$i,\"odd\":$((i % 2)),\"tags\":[\"t$((i % 3))\"]}"; done >rows.jsonl

# Vectors and payloads come in and go out the same.
kith import a.kith base.fvecs --payload rows.jsonl --key id --batch 700 -q
equals 3000 kith count a.kith
equals 1000 kith count a.kith --filter 'n < 2000 and odd == 1'
equals 500 kith count a.kith --filter 'n >= 1500 and array_contains(tags, "t1")'
equals 100$'\t''{"id":100,"n":0,"odd":0,"tags":["t0"]}' kith get a.kith 100
kith export a.kith out.fvecs --payload out.jsonl -q
cmp base.fvecs out.fvecs || fail "the vectors came out differently"
cmp rows.jsonl out.jsonl || fail "the payloads came out differently"
kith export a.kith few.npy --payload few.jsonl --key key --filter 'n < 10' -q
equals '{"id":100,"key":100,"n":0,"odd":0,"tags":["t0"]}' head -1 few.jsonl
kith import b.kith few.npy --payload few.jsonl --key key --metric cosine -q
equals 10 kith count b.kith
kith import b.kith few.npy --payload few.jsonl --key key -q # the same keys: nothing is doubled
equals 10 kith count b.kith
kith import b.kith few.npy -q # no keys: new rows
equals 20 kith count b.kith

# Page by page, as a whole, by key.
equals 5 bash -c 'kith get a.kith --filter "odd == 1" --limit 5 | wc -l'
kith get a.kith --filter 'odd == 1' >whole
: >pages
for ((after = 0;;)); do
    kith get a.kith --filter 'odd == 1' --after "$after" --limit 400 >page
    [ -s page ] || break
    cat page >>pages
    after=$(tail -1 page | cut -f1)
done
cmp whole pages || fail "pages are not the whole"
kith get a.kith 101 --vector >row
grep -qE '"vector": ?\[([^],]+,){7}[^],]+\]' row || fail "not eight components: $(cat row)"

# Declared fields: the same rows, and what does not fit is refused.
equals '' kith fields a.kith
kith fields a.kith --add n:int --add odd:int >shown
grep -q '^n  *int' shown || fail "fields: $(cat shown)"
equals 1000 kith count a.kith --filter 'n < 2000 and odd == 1'
equals 500 kith count a.kith --filter 'n >= 1500 and array_contains(tags, "t1")'
equals 2 bash -c 'kith fields a.kith --json | wc -l'
refuse 1 'tags cannot be text: in row 100' kith fields a.kith --add tags:text
refuse 2 'NAME:KIND' kith fields a.kith --add tags
refuse 2 'no kind of field' kith fields a.kith --add tags:list
refuse 1 'no field tags' kith fields a.kith --drop tags
kith fields a.kith --drop odd >shown
kith verify a.kith >/dev/null || fail "the collection with fields is not sound"

# Search: by key, by vector, by a file; exactly, by index, with a filter.
for round in exact index; do
    kith search a.kith --vectors query.fvecs -k 7 --filter 'odd == 1 and n < 1000' --json >found
    equals 5 bash -c 'wc -l <found'
    equals 35 bash -c 'grep -o "\"odd\": *1" found | wc -l'
    equals 3 bash -c "kith search a.kith --like 150 -k 50 --filter 'n in [49, 50, 51, 52]' --json | grep -o '\"rank\"' | wc -l"
    kith search a.kith --vector '[1,2,3,4,5,6,7,8]' --explain --filter 'n < 3' >explained
    grep -q '^plan: .*3 of 3,000 rows' explained || fail "no plan: $(cat explained)"
    [ $round = index ] || kith import a.kith base.fvecs --fold -q
    [ $round = index ] || kith delete a.kith --filter 'not exists n' >/dev/null
done
equals 3000 kith count a.kith

# By several rows, page by page, in so much time; how good the answers are.
kith search a.kith --like 150 --like 151 --unlike 160 -k 6 --json >found
equals 6 bash -c "grep -o '\"rank\"' found | wc -l"
! grep -qE '"key": ?(150|151|160),' found || fail "an example was found: $(cat found)"
kith search a.kith --like 150 -k 10 --exact --json | grep -oE '"key": ?[0-9]+' >whole
kith search a.kith --like 150 -k 5 --exact --json | grep -oE '"key": ?[0-9]+' >pages
kith search a.kith --like 150 -k 5 --offset 5 --exact --json --seconds 60 | grep -oE '"key": ?[0-9]+' >>pages
cmp whole pages || fail "pages of a search are not the whole"
kith search a.kith --vector '[1,2,3,4,5,6,7,8]' -k 3 --group-by 'tags[0]' --group-size 2 --json >found
equals 6 bash -c "grep -o '\"rank\"' found | wc -l"
equals 3 bash -c "grep -oE '\"tags\": ?\[\"t[0-9]\"' found | sort -u | wc -l"
refuse 2 'is for --vector' kith search a.kith --like 150 --group-by odd
kith recall a.kith --queries 20 >shown
grep -qE '^recall@10 (0\.9|1\.0)' shown || fail "recall: $(cat shown)"
kith recall a.kith --queries 20 --json >shown
equals 2 bash -c 'kith recall a.kith --history | wc -l'

# A filter that cannot match says so, beside the answer and not instead of it.
for verb in count get delete 'search --like 150'; do
    read -ra words <<<"$verb"
    kith "${words[0]}" a.kith "${words[@]:1}" --filter 'nn > 3' >/dev/null 2>noted || fail "$verb: $(cat noted)"
    grep -q -- '--filter: no row has nn; row 100 has id, n, odd, tags' noted || fail "$verb without a hint: $(cat noted)"
done
kith count a.kith --filter 'tags in ["t1"]' 2>&1 >/dev/null | grep -q 'tags is a list .*array_contains' || fail "no hint at a list"
equals '' bash -c "kith get a.kith --filter 'n > 5000' 2>&1"

# Rows known by a text, changed in part, gone in time.
awk '{ sub(/"id":/, "\"name\":\"row"); sub(/,"n"/, "\",\"n\""); print }' rows.jsonl >named.jsonl
kith import t.kith base.fvecs --payload named.jsonl --text-key name -q
kith import t.kith base.fvecs --payload named.jsonl --text-key name --restart -q # an upsert: nothing is doubled
equals 3000 kith count t.kith
kith set t.kith =row107 =row108 --merge '{"n":null,"seen":true}'
equals '{"name":"row107","odd":1,"seen":true,"tags":["t1"]}' bash -c 'kith get t.kith =row107 | cut -f2'
kith get t.kith =row107 --json | grep -qE '"text": ?"row107"' || fail "no text key"
kith search t.kith --like =row107 -k 3 --json | grep -qE '"text": ?"row' || fail "no text key in results"
kith set t.kith =row108 --expires 1000
kith set t.kith =row109 --expires +3600
refuse 1 'there is no row' kith get t.kith =row108
equals 2999 kith count t.kith --filter 'exists name'
equals '1 row deleted' kith delete t.kith --expired
equals '1 row deleted' kith delete t.kith =row110 =nothing --missing-ok
equals 2998 kith count t.kith
kith verify t.kith >/dev/null || fail "the collection with text keys is not sound"
refuse 1 "no row 'nothing'" kith set t.kith =nothing --merge '{}'
refuse 2 'is no time' kith set t.kith =row107 --expires tomorrow
refuse 2 'give --merge' kith set t.kith =row107
refuse 1 '^kith set: --merge: .* not valid JSON' kith set t.kith =row107 --merge '{seen:1}'
refuse 2 'needs --payload' kith import t.kith base.fvecs --text-key name
refuse 2 'needs a row to be like' kith search t.kith --vector '[1]' --unlike 5

# Ranges, partitions, vector fields.
radius=$(kith search a.kith --like 150 -k 20 --exact --json | grep -oE '"distance": ?[0-9.e-]+' | tail -1 | grep -oE '[0-9.e-]+$')
first=$(kith get a.kith 150 --vector --json | grep -oE '"vector": ?\[[^]]*\]' | sed 's/^"vector": *//')
equals 21 bash -c "kith search a.kith --vector '$first' --radius $radius -k 100 --exact --json | grep -o '\"rank\"' | wc -l"
equals 5 bash -c "kith search a.kith --vector '$first' --radius $radius -k 5 --json | grep -o '\"rank\"' | wc -l"
equals 0 bash -c "kith search a.kith --vector '$first' --radius 1e9 -k 5 --filter 'n < 0' --json | grep -o '\"rank\"' | wc -l"
refuse 2 'is for --vector' kith search a.kith --like 150 --radius 3
"$make_vectors" 3000 4 9 titles.fvecs
"$make_vectors" 5 4 10 titles_query.fvecs
kith import p.kith base.fvecs --payload rows.jsonl --key id --partition new --also title=titles.fvecs -q
kith partitions p.kith --add old
kith set p.kith 150 151 --partition old
kith set p.kith 152 --no-partition
kith partitions p.kith >shown
grep -qE '^new +2,997 *$' shown || fail "partitions: $(cat shown)"
grep -qE '^old +2 *$' shown || fail "partitions: $(cat shown)"
equals 2 kith count p.kith --filter "\$partition == 'old'"
equals 2 bash -c "kith search p.kith --vectors titles_query.fvecs --field title --partition old --json | head -1 | grep -o '\"rank\"' | wc -l"
refuse 1 "no partition 'none'" kith search p.kith --like 150 --partition none
kith fields p.kith >shown
grep -qE '^title +4 +l2 +auto +3,000' shown || fail "vector fields: $(cat shown)"
kith search p.kith --vectors query.fvecs --field - --vectors titles_query.fvecs --field title -k 4 --json >found
equals 5 bash -c 'wc -l <found'
equals 20 bash -c "grep -o '\"score\"' found | wc -l"
kith search p.kith --vectors query.fvecs --field - --vectors titles_query.fvecs --field title --weight 3 --weight 0.5 \
    --fuse weights >found || fail "fusion by weights"
refuse 2 'for 2 --vector' kith search p.kith --vectors query.fvecs --vectors titles_query.fvecs
refuse 1 "no vector field 'titel'" kith search p.kith --vectors query.fvecs --field titel
refuse 2 'NAME=FILE' kith import p.kith base.fvecs --also title
refuse 1 'it has 5 vectors' kith import p.kith base.fvecs --also title=titles_query.fvecs --restart
kith fields p.kith --add-vectors text:16:cosine:HNSW16 >shown
grep -qE '^text +16 +cosine +HNSW16' shown || fail "vector fields: $(cat shown)"
refuse 2 'NAME:DIM' kith fields p.kith --add-vectors text
kith fields p.kith --drop-vectors text >/dev/null
kith verify p.kith >/dev/null || fail "the collection with partitions is not sound"
kith partitions p.kith --drop old -q
equals 2998 kith count p.kith

# An index that grows with the rows, recall asked for, memory as a contract.
"$make_vectors" 30000 8 11 grown.fvecs 50
kith import g.kith grown.fvecs --max-bytes 60e6 --fold 2>noted
grep -qE 'trains IVF[0-9]+,PQ[0-9]+,RFlat \(no index\), [0-9.]+ MB of memory' noted || fail "no plan: $(cat noted)"
refuse 1 'tune the collection' kith search g.kith --like 5 --target-recall 0.9
kith tune g.kith --target-recall 0.9 --queries 100 >shown
grep -qE '^nprobe [0-9]+, refine_k [0-9]+: recall@10 (0\.9|1)' shown || fail "tune: $(cat shown)"
kith search g.kith --like 5 --target-recall 0.9 --json | grep -q '"complete": *true' || fail "no search for a recall"
kith recall g.kith --queries 50 -q >/dev/null
kith stats g.kith >shown
grep -qE '^tuned +to recall 0.9: nprobe' shown || fail "stats without tuning: $(cat shown)"
grep -qE '^recall measured +(0\.[89]|1)' shown || fail "stats without recall: $(cat shown)"
grep -qE '^drift +[01]\.' shown || fail "stats without drift: $(cat shown)"
kith import g.kith grown.fvecs --restart -q
kith stats g.kith | grep -qE '^next fold +adds to IVF[^ ]+ \(changes\)' || fail "no next fold: $(kith stats g.kith)"
refuse 1 'max_bytes leaves' kith import g.kith grown.fvecs --restart -q --fold --max-bytes 5e6
refuse 2 'rows of its own' kith tune g.kith query.fvecs

# Deleting: by key, by filter, all or nothing.
equals '1,500 rows deleted' kith delete a.kith --filter 'odd == 1'
equals '2 rows deleted' kith delete a.kith 100 102
refuse 1 'there is no row 101' kith delete a.kith 104 101
equals 1498 kith count a.kith
equals '1 row deleted' kith delete a.kith 104 101 --missing-ok
kith verify a.kith >/dev/null || fail "the collection is not sound"

kith stats a.kith >shown
grep -q '^rows  *1,497' shown || fail "stats: $(cat shown)"
grep -q '^next fold  *nothing to do' shown || fail "no next fold: $(cat shown)"
equals 'there is no index' bash -c 'kith tune a.kith --queries 10 | cut -d, -f1'
kith stats a.kith --json >shown
grep -q '"free_slots": *[1-9]' shown || fail "stats: $(cat shown)"

# Killed at any moment an import goes on, and no row is lost or doubled.
"$make_vectors" 20000 32 1 many.fvecs
"$make_vectors" 100 32 1 base32.fvecs
for delay in 0.01 0.03 0.05 0.08 0.12 0.2; do
    timeout -s KILL "$delay" kith import killed.kith many.fvecs --batch 300 -q || true
done 2>/dev/null
kith import killed.kith many.fvecs -q
equals 20000 kith count killed.kith
kith export killed.kith again.fvecs -q
cmp many.fvecs again.fvecs || fail "rows were lost or doubled"

# Writers take turns by batch.
kith import many1.kith many.fvecs --batch 200 -q &
first=$!
for ((i = 0; i < 100; i++)); do [ -e many1.kith ] && break; sleep 0.02; done
kith import many1.kith base32.fvecs --batch 200 -q --wait 60
wait "$first" || fail "the first of two writers failed"
equals 20100 kith count many1.kith

# What is refused.
refuse 1 'at byte 3' kith count a.kith --filter 'n >'
refuse 1 'no such file|not there|NOTFOUND|cannot be opened' kith count missing.kith
refuse 1 'its vectors have 4 components, those of the collection 8' kith import a.kith narrow.fvecs
refuse 1 'ends after 3000 lines' kith import c.kith many.fvecs --payload rows.jsonl
refuse 2 'needs --payload' kith import c.kith base.fvecs --key id
refuse 2 'SOURCE: missing' kith import a.kith
refuse 1 'rows.json: its ending names no format: rows come from .jsonl' kith import c.kith rows.json
kith import a.kith --fold 2>noted
grep -q 'nothing to build' noted || fail "import --fold without a source: $(cat noted)"
refuse 1 "rows.jsonl: line 1: 'tags' must be a whole number" kith import d.kith base.fvecs --payload rows.jsonl --key tags
refuse 1 "rows.jsonl: line 1: has no member 'nr', which --key names" kith import d.kith base.fvecs --payload rows.jsonl --key nr
sed '5s/}$//' rows.jsonl >broken.jsonl
refuse 1 '^kith import: broken.jsonl: line 5: .* expected' kith import d.kith base.fvecs --payload broken.jsonl --key id
refuse 1 '^kith import: broken.jsonl: line 5: payload is not valid JSON' kith import d.kith base.fvecs --payload broken.jsonl
[ ! -e d.kith ] || fail "an import that failed left a collection behind"
refuse 1 'broken.jsonl: line 5' kith import d.kith base.fvecs --payload broken.jsonl --batch 2
equals 4 kith count d.kith
refuse 2 "is not a key" kith get a.kith x
refuse 2 'unknown option; .* behind --' kith get a.kith -1
refuse 2 "'-1' is not a key" kith get a.kith -- -1
refuse 2 'either keys or --filter' kith delete a.kith
refuse 2 'either keys or --filter' kith delete a.kith 5 --filter 'n < 3'
refuse 2 'give pictures, or one of' kith search a.kith
refuse 2 'give pictures, or one of' kith search a.kith --like 5 --vector '[1]'
refuse 2 'not a JSON array' kith search a.kith --vector '1,2'
refuse 1 'components' kith search a.kith --vector '[1,2]'
refuse 1 'no row 99' kith search a.kith --like 99
mkfifo pipe.jsonl pipe.npy
refuse 1 'pipe.jsonl: is a device or a pipe' kith export a.kith pipe.jsonl
refuse 1 'pipe.npy: is a device or a pipe' kith export a.kith pipe.npy
refuse 1 'pipe.npy: is a device or a pipe' kith convert base.fvecs pipe.npy
[ -p pipe.npy ] || fail "a pipe was replaced"
refuse 1 'no row with a vector is let through' kith export a.kith none.npy --filter 'n < 0'
[ ! -e none.npy ] || fail "an export without rows left a file"
