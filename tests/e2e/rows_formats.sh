#!/usr/bin/env bash
# Rows in and out in every form: vector files with payloads, HDF5, tables, rows as JSON, other collections; searches as requests.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
fail() { echo "rows_formats.sh: $*" >&2; exit 1; }
make_vectors=${KITH_BUILD:?}/bin/make_vectors

# shellcheck source=tests/e2e/support/commands.sh
source "${KITH_SOURCE:?}/tests/e2e/support/commands.sh"

# same A B: the same content.
same() { kith verify "$1" --against "$2" >differs || fail "$2 differs from $1: $(cat differs)"; }

# A collection with all that rows may have.
"$make_vectors" 2000 8 1 base.fvecs 20
"$make_vectors" 2000 4 2 titles.fvecs
for ((i = 0; i < 2000; i++)); do
    printf '{"name":"row, \\"%d\\"","n":%d,"x":%d.25,"where":{"lat":%d,"lon":%d},"none":null,"u":"\\u00fc\\n"}\n' \
        "$i" "$i" "$i" $((i % 80)) $((i % 170))
done >rows.jsonl
kith import a.kith base.fvecs --payload rows.jsonl --text-key name --partition new --also title=titles.fvecs --metric cosine -q
kith partitions a.kith --add empty -q
kith fields a.kith --add n:int --add where:geo >/dev/null
kith set a.kith 5 6 7 --expires 4000000000
kith set a.kith 8 9 --no-partition
kith delete a.kith 11 12 >/dev/null
kith import a.kith titles.fvecs --restart 2>/dev/null && fail "vectors of another dim were taken"
equals 1998 kith count a.kith

# Rows as JSON, and another collection, lose nothing.
kith export a.kith a.jsonl -q
kith import b.kith a.jsonl -q
same a.kith b.kith
diff <(kith fields a.kith) <(kith fields b.kith) || fail "the fields of b differ"
diff <(kith partitions a.kith) <(kith partitions b.kith) || fail "the partitions of b differ"
kith export b.kith b.jsonl -q
cmp a.jsonl b.jsonl || fail "rows as JSON came out differently"
kith export a.kith c.kith -q
same a.kith c.kith
diff <(kith fields a.kith) <(kith fields c.kith) || fail "the fields of c differ"
kith import d.kith c.kith -q
same a.kith d.kith
kith import d.kith c.kith --restart -q # nothing is doubled
same a.kith d.kith
kith get a.kith 5 6 --vector --json | sed 's/"query"://' >some.jsonl
kith import e.kith some.jsonl --metric cosine -q
equals 2 kith count e.kith

# Part of another collection, beside rows that are there; a text that is known keeps its number.
kith import f.kith a.kith --filter 'n < 100' -q
equals 98 kith count f.kith
kith delete f.kith 1 >/dev/null
kith set f.kith 2 --merge '{"n":-1}'
kith import f.kith a.kith --filter 'n < 100' --restart -q
equals 98 kith count f.kith
equals 0 kith count f.kith --filter 'n == -1'
kith verify f.kith >/dev/null || fail "f is not sound"

# Killed at any moment it goes on.
for delay in 0.02 0.05 0.1; do
    timeout -s KILL "$delay" kith import k.kith a.kith --batch 100 -q || true
    timeout -s KILL "$delay" kith import l.kith a.jsonl --batch 100 -q || true
done 2>/dev/null
kith import k.kith a.kith -q
same a.kith k.kith
kith import l.kith a.jsonl -q
same a.kith l.kith

# Tables: all of a row, or members in columns.
kith export a.kith a.csv -q
# shellcheck disable=SC2016 # the names of columns begin with a dollar sign
head -1 a.csv | grep -qxF '$key,$text,$partition,$expires,$payload,$vector,$vector.title' || fail "head: $(head -1 a.csv)"
for delay in 0.02 0.05 0.1; do timeout -s KILL "$delay" kith import g.kith a.csv --metric cosine --batch 100 -q || true; done 2>/dev/null
kith import g.kith a.csv --metric cosine -q
kith export g.kith g.csv -q
cmp a.csv g.csv || fail "the table came out differently"
kith partitions g.kith --add empty -q
same a.kith g.kith
kith export a.kith a.tsv --column name --column n --column x -q
kith import h.kith a.tsv -q
equals '{"n":41,"name":"row, \"41\"","x":41.25}' bash -c "kith get h.kith '=row, \"41\"' | cut -f2"
printf 'id,name,f0,f1,when,junk,flag,"odd ""name"""\r\n7,Alice,1,2.5,2024-05-01,?,true,00012\r\n8,"line\nbreak, ""q""",-3,4e-1,,"",false,"5"\r\n' >t.csv
kith import t.kith t.csv --key id --as f0..f1=vector --as junk=skip --as when=at -q
equals '{"at":"2024-05-01","flag":true,"name":"Alice","odd \"name\"":"00012"}' bash -c 'kith get t.kith 7 | cut -f2'
equals '{"flag":false,"name":"line\nbreak, \"q\"","odd \"name\"":"5"}' bash -c 'kith get t.kith 8 | cut -f2'
kith get t.kith 8 --vector --json | grep -qE '"vector": ?\[-3(\.0)?, ?0\.4' || fail "vector: $(kith get t.kith 8 --vector --json)"
printf '1,2,3\n4,5,6\n' >plain.csv # numbers alone: a file of vectors
kith import v.kith plain.csv -q
equals 2 kith count v.kith

# HDF5, where it is built in: vectors, and payloads beside them.
if kith export a.kith a.hdf5 --payload h.jsonl --key id -q 2>/dev/null; then
    kith import i.kith a.hdf5 --payload h.jsonl --key id -q # its metric is in the file
    equals 1998 kith count i.kith
    kith stats i.kith | grep -q cosine || fail "the metric is not that of the file"
    kith export i.kith i.fvecs -q
    kith export a.kith x.fvecs -q
    cmp i.fvecs x.fvecs || fail "vectors came out of HDF5 differently"
    kith info a.hdf5 | grep -q '1,998\|1998' || fail "info: $(kith info a.hdf5)"
fi
kith export a.kith o.npy --also title=o_titles.npy -q
kith info o_titles.npy | grep -q '1,998\|1998' || fail "the vectors of the field: $(kith info o_titles.npy)"

# Requests.
cat >requests.jsonl <<'END'
{"vectors":[{"vector":[1,2,3,4,5,6,7,8]},{"field":"title","vector":[1,0,0,1],"weight":2}],"fusion":"weighted","k":3}

{"like":["row, \"40\""],"k":4,"filter":"n < 500","partitions":["new"]}
{"vector":[1,0,0,1],"field":"title","k":2,"offset":1,"exact":true}
END
kith search a.kith --request requests.jsonl --json --explain >found
equals 3 bash -c 'wc -l <found'
equals 3 bash -c 'head -1 found | grep -o "\"score\"" | wc -l'
equals 4 bash -c 'sed -n 2p found | grep -o "\"distance\"" | wc -l'
sed -n 3p found | grep -qE '"rank": ?3' || fail "no offset: $(sed -n 3p found)"
sed -n 3p found | grep -qE '"estimated_recall": ?1' || fail "no estimate: $(sed -n 3p found)"
equals "$(sed -n 3p found | grep -oE '"results".*"complete"')" \
    bash -c "sed -n 4p requests.jsonl | kith search a.kith --request - --json | grep -oE '\"results\".*\"complete\"'"
kith search a.kith --request requests.jsonl >/dev/null || fail "requests as tables"

# What is refused.
echo '{"vector":[1],"filtre":"n > 1"}' >bad.jsonl
refuse 1 "line 1: .*no member 'filtre'" kith search a.kith --request bad.jsonl
refuse 2 'stands in the request' kith search a.kith --request bad.jsonl -k 5
refuse 2 'says itself' kith search a.kith --request bad.jsonl --like 5
printf 'id,a\n1,2\n3\n' >short.csv
refuse 1 'line 3: 1 fields, the first line names 2' kith import z.kith short.csv --key id
printf 'id,a\n1,"2\n' >open.csv
refuse 1 'line 2: a quote is never closed' kith import z.kith open.csv --key id
printf 'id,a\n1,2"3"\n' >quote.csv
refuse 1 'line 2: a quote within a field' kith import z.kith quote.csv --key id
printf 'id,v\n1,1 2 x\n' >vector.csv
# shellcheck disable=SC2016
refuse 1 'line 2, \$vector: not a list of numbers' kith import z.kith vector.csv --key id --as v=vector
refuse 2 "no column 'nothing'" kith import z.kith t.csv --key nothing
refuse 2 'is for tables' kith import z.kith a.jsonl --as a=key
refuse 2 'are for vector files' kith import z.kith a.csv --payload rows.jsonl
refuse 2 'is for rows of a collection' kith import z.kith a.csv --filter 'n < 5'
echo '{"key":1,"paylod":{}}' >member.jsonl
refuse 1 "line 1: a row has no member 'paylod'" kith import z.kith member.jsonl
echo '{"key":1,"payload":{},"vector":[1,"x"]}' >numbers.jsonl
refuse 1 'line 1: vector must be an array of numbers' kith import z.kith numbers.jsonl
refuse 1 "no vector field 'none'" kith export a.kith y.npy --also none=none.npy
refuse 2 'is for tables' kith export a.kith y.jsonl --column n
left=$(find . -name 'y.*' -o -name '*.part')
[ -z "$left" ] || fail "something unfinished is left: $left"
