#!/usr/bin/env bash
# convert, info, verify and plot as a user runs them, and all that can be wrong with what they are given.
set -euo pipefail
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
fail() { echo "files.sh: $*" >&2; exit 1; }
cd "$scratch"

# expect STATUS COMMAND...: the exit status; on failure one line on stderr, which is left in ./err.
expect() {
    local wanted=$1 status=0
    shift
    "$@" >out 2>err || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*: $(cat err)"
    if [ "$wanted" != 0 ] && [ "$(wc -l <err)" != 1 ]; then fail "not one line on stderr: $*: $(cat err)"; fi
}
# says TEXT: in what the last command wrote.
says() { grep -qF -- "$1" out err || fail "no '$1' in: $(cat out err)"; }
make_vectors() { "$KITH_BUILD/bin/make_vectors" "$@"; }

# ---- convert: there and back is the same file ----
make_vectors 300 12 5 a.fvecs
for format in fbin npy txt csv tsv vec; do
    expect 0 kith convert a.fvecs "b.$format" -q
    expect 0 kith convert "b.$format" c.fvecs -q
    cmp a.fvecs c.fvecs || fail "fvecs -> $format -> fvecs changed the vectors"
done
printf '\2\0\0\0\1\2\2\0\0\0\3\377' >bytes.bvecs
for format in u8bin npy ivecs fvecs csv; do
    expect 0 kith convert bytes.bvecs "b.$format" -q
    expect 0 kith convert "b.$format" c.bvecs -q
    cmp bytes.bvecs c.bvecs || fail "bvecs -> $format -> bvecs changed the bytes"
done
[ "$(cat b.csv)" = $'1,2\n3,255' ] || fail "csv: $(cat b.csv)"
expect 0 kith convert bytes.bvecs b.npy -q
expect 0 kith info b.npy --json
[ "$(cat out)" = '{"file":"b.npy","kind":"vectors","format":"npy","rows":2,"dim":2,"element":"uint8"}' ] || fail "info: $(cat out)"
expect 0 kith convert a.fvecs half.npy --element float16 --skip 100 --limit 50 --json
says '"output":"half.npy","rows":50,"dim":12,"element":"float16"'
expect 0 kith convert b.csv odd.data --to fvecs -q
expect 0 kith convert odd.data c.csv --from fvecs -q
cmp b.csv c.csv

# ---- convert: bad input leaves no file, and the old one as it was ----
echo "the old file" >old.bvecs
expect 1 kith convert a.fvecs old.bvecs
says "kith convert: a.fvecs: row 0, component"
[ "$(cat old.bvecs)" = "the old file" ] || fail "a failed conversion damaged the old file"
head -c 1000 a.fvecs >cut.fvecs
expect 1 kith convert cut.fvecs x.npy
says "cut.fvecs: has 1000 bytes, which are no whole rows of dim 12 (52 bytes)"
printf '1.5 2\n3 nan\n' >nan.txt
expect 1 kith convert nan.txt x.npy
says "row 1, component 1 is 'nan'"
printf '1.5 2\n3\n' >short.txt
expect 1 kith convert short.txt x.npy
says "row 1 has 1 numbers, expected 2"
: >empty.npy
expect 1 kith convert empty.npy x.fvecs
says "empty.npy: is empty"
expect 1 kith convert missing.fvecs x.npy
says "missing.fvecs"
expect 1 kith convert a.fvecs nowhere/x.npy
expect 1 kith convert a.fvecs x.unknown
says "x.unknown: its extension names no vector file format"
expect 1 kith convert a.fvecs x.npy --skip 300
says "has 300 rows, --skip 300 leaves none"
expect 1 kith convert a.fvecs x.fvecs --element uint8
expect 2 kith convert a.fvecs
expect 2 kith convert a.fvecs b.npy c.npy
expect 2 kith convert a.fvecs x.npy --to jpeg
expect 2 kith convert a.fvecs x.npy --skip -1
mkdir locked
chmod a-w locked
if [ ! -w locked ]; then # not so for root
    expect 1 kith convert a.fvecs locked/x.npy
    says "Permission denied"
fi
# A disk that takes no more: the limit of this shell on the size of a file.
status=0
(
    trap '' XFSZ
    ulimit -f 4
    exec kith convert a.fvecs full.npy
) 2>err || status=$?
[ "$status" = 1 ] || fail "a full disk gave status $status: $(cat err)"
says "full.npy: cannot be written: File too large"
ls ./*.tmp-* x.* full.npy 2>/dev/null && fail "failed conversions left files behind"

# ---- info and verify ----
for spec in Flat IVF4,PQ4x4,RFlat; do
    expect 0 kith build "$spec" a.fvecs -o a.kidx -q
    expect 0 kith info a.kidx
    says "$spec"
    expect 0 kith info a.kidx --json
    says "\"kind\":\"index\",\"spec\":\"$spec\",\"metric\":\"l2\",\"rows\":300,\"dim\":12"
    expect 0 kith verify a.kidx
    hash=$(cut -d' ' -f1 out)
    [[ $hash =~ ^[0-9a-f]{16}$ ]] || fail "no hash: $(cat out)"
    cp a.kidx copy.kidx
    expect 0 kith verify a.kidx --against copy.kidx
    [ "$(grep -c "^$hash" out)" = 2 ] || fail "two equal files, two hashes: $(cat out)"
    expect 0 kith build "$spec" a.fvecs -o other.kidx --seed 2 -m l1 -q
    expect 1 kith verify a.kidx --against other.kidx
    says "kith verify: other.kidx: differs from a.kidx"
    bytes=$(stat -c %s a.kidx)
    # One byte changed, at places all over the file: always found.
    for part in 3 9 20 60 100 333 450 505 511 520 "$((bytes / 2))" "$((bytes - 100))" "$((bytes - 1))"; do
        cp a.kidx bad.kidx
        byte=$(od -An -tu1 -j "$part" -N1 bad.kidx)
        printf '%b' "\\x$(printf %x $(((byte + 1) % 256)))" | dd of=bad.kidx bs=1 seek="$part" conv=notrunc status=none
        expect 1 kith verify bad.kidx
    done
    expect 1 kith verify bad.kidx --json
    says '"sound":false'
    for bytes in 0 7 100 511 512 "$((bytes - 1))"; do
        head -c "$bytes" a.kidx >bad.kidx
        expect 1 kith verify bad.kidx
        expect 1 kith info bad.kidx
        expect 1 kith query bad.kidx a.fvecs
    done
    cp a.kidx newer.kidx
    printf '\2' | dd of=newer.kidx bs=1 seek=8 conv=notrunc status=none
    for verb in info verify; do
        expect 1 kith "$verb" newer.kidx
        says "newer.kidx: is of format version 2, this program reads version 1"
    done
done
expect 0 kith info a.fvecs
says "fvecs"
expect 1 kith info "$KITH_SOURCE/LICENSE"
says "vector"
expect 1 kith info .
expect 1 kith verify a.fvecs
says "neither an index nor a collection"
expect 1 kith verify missing.kidx
expect 2 kith verify
expect 2 kith info

# ---- plot ----
cat >bench.jsonl <<'END'
{"spec":"Flat","params":{},"n":300,"k":10,"recall":1.0,"qps":1000.0}
{"spec":"IVF4,Flat","params":{"nprobe":1},"n":300,"k":10,"recall":0.5,"qps":9000.0}

{"spec":"IVF4,Flat","params":{"nprobe":4},"n":300,"k":10,"recall":0.9,"qps":3000.0}
{"spec":"<&\"odd\">","params":{"nprobe":2},"n":300,"k":10,"recall":0.4,"qps":2000.0}
END
expect 0 kith plot bench.jsonl -o curves.svg
says "4 points of 3 curves"
if command -v xmllint >/dev/null; then xmllint --noout curves.svg || fail "the SVG is no XML"; fi
for text in '<svg ' 'IVF4,Flat nprobe=4 recall=0.9 qps=3000' '&lt;&amp;&quot;odd&quot;&gt;' 'n=300 k=10' '</svg>'; do
    grep -qF -- "$text" curves.svg || fail "no '$text' in the SVG"
done
[ "$(grep -c '<polyline' curves.svg)" = 3 ] || fail "not three curves"
cp curves.svg again.svg
expect 0 kith plot - -o again.svg -q <bench.jsonl
cmp curves.svg again.svg
expect 1 kith plot bench.jsonl missing.jsonl -o x.svg
says "missing.jsonl: cannot be opened"
echo 'no json' >>bench.jsonl
expect 1 kith plot bench.jsonl -o curves.svg
says "kith plot: bench.jsonl:6: is no JSON"
cmp curves.svg again.svg || fail "a failed plot changed the old file"
echo '{"recall":0.5}' >few.jsonl
expect 1 kith plot few.jsonl -o x.svg
says "few.jsonl:1: has no numbers recall and qps"
echo '{"recall":0.5,"qps":0}' >zero.jsonl
expect 1 kith plot zero.jsonl -o x.svg
says "qps is 0, which a logarithmic axis cannot show"
expect 1 kith plot /dev/null -o x.svg
expect 2 kith plot bench.jsonl
expect 2 kith plot bench.jsonl -o x.svg -x colour
[ ! -e x.svg ] || fail "failed plots left a file behind"
echo "convert, info, verify and plot: as documented"
