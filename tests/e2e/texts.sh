#!/usr/bin/env bash
# kith text dups as a user runs it: lines, tables, folders, scripts of the world, wrong usage; and on real news and essays
# where they are ($KITH_DATA, else ../shared/data).
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "texts.sh: $*" >&2; exit 1; }
data=$(realpath "${KITH_DATA:-${KITH_SOURCE:?}/../shared/data}" 2>/dev/null || true)
cd "$scratch"

# expect STATUS COMMAND...: the exit status; on failure one line on stderr, which is left in ./err.
expect() {
    local wanted=$1 status=0
    shift
    "$@" >out 2>err || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*: $(cat err)"
    if [ "$wanted" != 0 ] && [ "$(wc -l <err)" != 1 ]; then fail "not one line on stderr: $*: $(cat err)"; fi
}
# is TEXT: what the last command wrote on stdout.
is() { [ "$(cat out)" = "$1" ] || fail "not '$1' but: $(cat out)"; }
says_not() { ! grep -qF -- "$1" out err || fail "'$1' in: $(cat out err)"; }
says() { grep -qF -- "$1" out err || fail "no '$1' in: $(cat out err)"; }

if ! kith text --help >/dev/null 2>&1; then
    echo "texts.sh: kith was built without texts; skipped"
    exit 0
fi

# ---- lines ----
cat >lines <<'END'
the cat sat on the mat and slept all day
nothing to do with the others, this line

The cat -- sat on the MAT, and slept all day!
the cat sat on the mat and slept all night
END
expect 0 kith text dups lines --json -t 0.7 -q
is $'{"a":1,"b":4,"jaccard":1.0}\n{"a":1,"b":5,"jaccard":0.777777778}\n{"a":4,"b":5,"jaccard":0.777777778}'
expect 0 kith text dups lines -t 0.9
says '1.0000  1  4'
says '1 pair among 4 of 4 documents'
expect 0 kith text dups lines --show groups --json -q
is '{"group":1,"ids":[1,4,5]}'
expect 0 kith text dups lines --show groups
says '1 group of 3 documents among 4 of 4'
for method in minhash simhash exact; do # by each method copies are copies
    expect 0 kith text dups - --json -t 1 -m "$method" -q <lines
    is '{"a":1,"b":4,"jaccard":1.0}'
done
expect 0 kith text dups lines --min-words 10 --json -q -t 0.1
is '{"a":1,"b":4,"jaccard":1.0}
{"a":1,"b":5,"jaccard":0.777777778}
{"a":4,"b":5,"jaccard":0.777777778}'
expect 0 kith text dups lines --min-words 11 --json -q -t 0.1
is ''
expect 0 kith text dups lines --format first-word --json -q -t 0.7
says '"a":"the","b":"The"'
expect 0 kith text dups lines --threads 3 --show groups -q --json
is '{"group":1,"ids":[1,4,5]}'
: >empty
expect 0 kith text dups empty --json
is ''

# ---- tables ----
printf 'id\ttitle\tnote\tbody\na1\tOne\tx\tthe same long text of a body\na2\tTwo\ty\tThe same long text of a body\na3\tOne\tz\tanother\r\n' >with.tsv
tail -n +2 with.tsv >without.tsv
expect 0 kith text dups with.tsv --columns body --json -q
is '{"a":"a1","b":"a2","jaccard":1.0}'
for columns in title,body 2,4; do
    expect 0 kith text dups without.tsv --columns "$columns" --json -q
    is '{"a":"a1","b":"a2","jaccard":0.714285714}' # 5 of 7 shingles: the title is in one of each
done
for columns in body,2 2,body; do # one by its name: the first line is no document
    expect 0 kith text dups with.tsv --columns "$columns" --json -q
    is '{"a":"a1","b":"a2","jaccard":0.714285714}'
    says_not '"id"'
done
expect 0 kith text dups with.tsv --columns title --id note --json -q
is '{"a":"x","b":"z","jaccard":1.0}'
expect 0 kith text dups without.tsv -s word:1 -t 0.6 --json -q # all but the id: 7 of 11 words
is '{"a":"a1","b":"a2","jaccard":0.636363636}'
expect 2 kith text dups without.tsv --columns nonsense
says 'there is no nonsense'
expect 2 kith text dups without.tsv --columns 5
expect 2 kith text dups without.tsv --columns ,
expect 2 kith text dups without.tsv --id nonsense
expect 2 kith text dups with.tsv --columns body --format lines
says 'are for --format tsv'

# ---- a folder ----
mkdir -p folder/sub folder/.hidden
cp lines folder/a.txt
cp lines folder/sub/b.txt
cp lines folder/.hidden/c.txt
printf 'the cat sat on the mat\0binary' >folder/d.bin
echo 'Something else altogether, in a file of its own.' >folder/e.txt
expect 0 kith text dups folder --json
is '{"a":"a.txt","b":"sub/b.txt","jaccard":1.0}'
says '1 file left out: no text'
expect 1 kith text dups folder/d.bin
says 'it is no text'
expect 0 kith text dups folder/ --json -q
is '{"a":"a.txt","b":"sub/b.txt","jaccard":1.0}'

# ---- Chinese, Japanese, Thai: no spaces, no options ----
cat >asian <<'END'
北京大学是中国著名的高等学府。
今天天气很好，我们去公园散步吧。
北京大学是中国著名的高等学校!
東京は日本の首都であり、世界最大の都市の一つです。
東京は日本の首都で、世界最大の都市の一つである。
กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย
กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทยครับ
END
expect 0 kith text dups asian --show groups --json -q
is '{"group":1,"ids":[1,3]}
{"group":2,"ids":[4,5]}
{"group":3,"ids":[6,7]}'
expect 0 kith text dups asian --show groups --json -q -s char:2
is '{"group":1,"ids":[1,3]}
{"group":2,"ids":[4,5]}
{"group":3,"ids":[6,7]}'

# ---- the very same line a hundred thousand times ----
yes 'the same line of words again and again' | head -n 100000 >copies || true
expect 1 kith text dups copies
says '4999950000 pairs'
says '--show groups'
expect 0 kith text dups copies --show groups --json -q
[ "$(wc -l <out)" = 1 ] || fail "$(wc -l <out) groups of one text"

# ---- the curve ----
expect 0 kith text dups --curve -t 0.5 --json -q
[ "$(wc -l <out)" = 21 ] || fail "the curve has $(wc -l <out) points"
grep -qF '{"jaccard":0.5,"probability":0.996' out || fail "the curve at 0.5: $(cat out)"

expect 0 kith text dups lines -t 0.05 --hashes 16
says '16 hashes find only'
expect 0 kith text dups lines -t 0.5
says_not 'find only'

# ---- wrong usage, and what is not there ----
expect 2 kith text dups
expect 2 kith text dups lines --shingles word
expect 2 kith text dups lines --shingles word:0
expect 2 kith text dups lines --shingles word:65
expect 2 kith text dups lines --threshold 0
expect 2 kith text dups lines --threshold 1.5
expect 2 kith text dups lines --method magic
expect 2 kith text dups lines --method simhash --distance 64
expect 2 kith text dups lines --recall 1
expect 1 kith text dups no-such-file
if [ "$(id -u)" != 0 ]; then
    chmod 0 folder/e.txt
    expect 1 kith text dups folder --json
    chmod 600 folder/e.txt
fi
if [ -e /dev/full ]; then
    status=0
    kith text dups lines >/dev/full 2>/dev/null || status=$?
    [ $status = 1 ] || fail "a full standard output ends with $status"
fi

# ---- real texts ----
if [ ! -e "$data/text/reuters.tsv" ]; then
    echo "texts.sh: no $data/text: the part on real texts is skipped"
    exit 0
fi
# Pairs of Jaccard >= 0.5, against the truth that another program computed.
awk '$3 >= 0.5 { print $1 " " $2 }' "$data/text/reuters_near_dups.tsv" | sort >truth
for method in minhash exact; do
    expect 0 kith text dups "$data/text/reuters.tsv" --columns title,body --shingles word:3 --min-words 30 --threads 2 --json \
        --method $method -q
    sed -E 's/.*"a":"([^"]*)","b":"([^"]*)".*/\1 \2/' out | sort >found
    right=$(comm -12 truth found | wc -l)
    echo "reuters, $method: $right of $(wc -l <truth) pairs found, $(wc -l <found) printed"
    [ $((right * 100)) -ge $(($(wc -l <truth) * 98)) ] || fail "recall below 0.98"
    [ $((right * 100)) -ge $(($(wc -l <found) * 99)) ] || fail "precision below 0.99"
done
[ "$right" = "$(wc -l <truth)" ] || fail "the exact join missed pairs"
# Ten pairs were planted among 1,000 articles.
expect 0 kith text dups "$data/text/articles_1000.train" --format first-word --json -q
sed -E 's/.*"a":"([^"]*)","b":"([^"]*)".*/\1 \2/' out | sort >found
sort "$data/text/articles_1000.truth" | cmp - found || fail "articles: $(cat found)"
# Essays: those that were cut from their source are nearer to it than any essay of the task that was not.
essays=$data/text/plagiarism-short
expect 0 kith text dups "$essays" -t 0.001 --method exact --json -q
sed -E 's/.*"a":"([^"]*)","b":"([^"]*)","jaccard":([^}]*)}/\1 \2 \3/' out >found
nearer=$(awk -v list="$essays/file_information.csv" '
    BEGIN { while ((getline line < list) > 0) { split(line, f, /[,\r]/); task[f[1]] = f[2]; kind[f[1]] = f[3] } }
    { source = $1 ~ /^orig/ ? $1 : $2; essay = $1 ~ /^orig/ ? $2 : $1 }
    source == "orig_task" task[essay] ".txt" {
        near[essay] = $3
        if (kind[essay] == "non" && $3 > worst[task[essay]]) worst[task[essay]] = $3
    }
    END { for (e in kind) if (kind[e] == "cut") { all++; good += near[e] + 0 > worst[task[e]] + 0 } print good " " all }' found)
echo "essays: $nearer of those cut from their source are nearer to it than all that are not"
if [ "${nearer#* }" != 19 ] || [ "${nearer% *}" -lt 17 ]; then fail "essays: $nearer"; fi
