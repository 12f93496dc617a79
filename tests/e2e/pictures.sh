#!/usr/bin/env bash
# A folder of pictures from its first index through everything that can happen to it.
set -euo pipefail
# Root may do everything, so part of this would test nothing: be nobody, if nobody can reach the program.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    if "${nobody[@]}" test -x "$(command -v kith)" -a -r "$0"; then exec "${nobody[@]}" bash "$0"; fi
fi
[ "$(id -u)" != 0 ] || echo "pictures.sh: as root, what may not be read is skipped"
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
fail() { echo "pictures.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }
tools=$KITH_BUILD/bin
cd "$scratch"

# expect STATUS COMMAND...: the exit status, and one line on stderr exactly when it is not 0.
expect() {
    local wanted=$1 status=0
    shift
    "$@" >out 2>err || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*: $(cat err)"
    if [ "$wanted" != 0 ] && [ "$(wc -l <err)" != 1 ]; then fail "not one line on stderr: $*: $(cat err)"; fi
}
# said PATTERN: the last command's message.
said() { grep -qE -- "$1" err || fail "no '$1' in: $(cat err)"; }
# report NAME: a number of the last `kith index --json`.
report() { grep -oE "\"$1\":[0-9.]+" out | head -n 1 | cut -d: -f2; }
# index_says "added=1 ..." [ARGUMENTS]: an index of ./album and what it must report; what is not named must be 0, but for
# found, unchanged and seconds.
index_says() {
    local wanted=$1 name value
    shift
    expect 0 kith index album -o album.kith --json "$@"
    for name in read added changed moved removed bad; do
        value=0
        case " $wanted " in *" $name="*) value=$(tr ' ' '\n' <<<"$wanted" | sed -n "s/^$name=//p") ;; esac
        [ "$(report "$name")" = "$value" ] || fail "$name is $(report "$name"), not $value: $(cat out)"
    done
}
show() { "$tools/show_collection" "$1"; }
key_of() { show album.kith | awk -F'\t' -v path="$1" '$2 == path { print $1 }'; }

# ---- the first index, and nothing to do after it ----
mkdir album
"$tools/make_pictures" good album 30 1
index_says "read=30 added=30"
[ "$(report found)" = 30 ] || fail "found $(report found)"
[ -s album.kith ] || fail "no album.kith"
index_says ""
[ "$(report unchanged)" = 30 ] || fail "unchanged $(report unchanged)"
before=$(show album.kith)

# A default name, and the summary for people.
expect 0 kith index album
grep -q '^album.kith: 30 pictures in /.*/album$' out || fail "$(cat out)"

# ---- search ----
expect 0 kith search album.kith album/b/0006.jpeg -k 3 --json
grep -q '^{"query":"album/b/0006.jpeg","results":\[{"rank":1,"key":[0-9]*,"path":"/.*/album/b/0006.jpeg","distance":0.0,"score":1.0,"payload":{.*"complete":true}$' out ||
    fail "$(cat out)"
python3 - out <<'END' || fail "JSON"
import json, sys
for line in open(sys.argv[1]):
    answer = json.loads(line)
    results = answer["results"]
    assert [r["rank"] for r in results] == [1, 2, 3], results
    assert results == sorted(results, key=lambda r: (r["distance"], r["key"]))
    payload = results[0]["payload"]
    assert payload["path"] == "b/0006.jpeg" and payload["folder"] == "b" and payload["format"] == "JPEG"
    assert (payload["width"], payload["height"]) == (200, 150) and len(payload["phash"]) == 16
END
expect 0 kith search album.kith album/b/0006.jpeg album/a/0000.jpg -k 100
[ "$(grep -cE '^ *[0-9]+  [01]\.[0-9]{4}  /' out)" = 60 ] || fail "$(cat out)"
expect 0 kith search album.kith album/a/0000.jpg --min-score 0.999 --json
[ "$(grep -o '"rank"' out | wc -l)" = 1 ] || fail "$(cat out)"

# The contact sheet: whole, self-contained, escaped.
mkdir -p 'odd<b>&"'
cp album/a/0000.jpg "odd<b>&\"/it's<script>.jpg"
expect 0 kith search album.kith "odd<b>&\"/it's<script>.jpg" -k 5 --html sheet.html
[ "$(grep -c '<li>' sheet.html)" = 5 ] || fail "the sheet has not five cards"
[ "$(grep -o 'data:image/jpeg;base64,/9j/' sheet.html | wc -l)" = 6 ] || fail "the sheet has not six thumbnails"
if grep -qE '<script|src="[^d]|href|http://|https://' sheet.html; then fail "the sheet is not self-contained"; fi
grep -q 'odd&lt;b&gt;&amp;&quot;/it&#39;s&lt;script&gt;.jpg' sheet.html || fail "the sheet is not escaped"
[ "$(find . -name '*.tmp' | wc -l)" = 0 ] || fail "temporary files are left"
expect 1 kith search album.kith album/a/0000.jpg --html nowhere/sheet.html
expect 1 kith search album.kith nothere.jpg
said 'nothere.jpg: .*No such file'
expect 1 kith search nothere.kith album/a/0000.jpg
expect 1 kith search album.kith sheet.html
said 'sheet.html: not a JPEG'
expect 2 kith search album.kith album/a/0000.jpg -k 0
expect 2 kith search album.kith

# ---- what happens to files ----
touch -d '2020-01-01' album/a/0000.jpg
index_says "read=1" # touched only
key=$(key_of b/0001.jpg)
"$tools/make_pictures" one album/b/0001.jpg 777
index_says "read=1 changed=1"
[ "$(key_of b/0001.jpg)" = "$key" ] || fail "a changed picture has another key"
mkdir album/new
key=$(key_of c/0002.png)
mv album/c/0002.png 'album/new/moved "here".png'
index_says "read=1 moved=1"
[ "$(key_of 'new/moved "here".png')" = "$key" ] || fail "a moved picture has another key"
cp album/a/0005.tif album/new/copy.tif
index_says "read=1 added=1" # a copy is not a move
mv album/new/copy.tif album/new/copy1.tif
cp album/new/copy1.tif album/new/copy2.tif
index_says "read=2 moved=1 added=1" # one of them takes the row, the other is new
rm album/new/copy1.tif album/new/copy2.tif album/d/0003.webp
index_says "removed=3"
mv album/e elsewhere
index_says "removed=6"
mv elsewhere album/e
index_says "read=6 added=6"
index_says ""

# Names that are no UTF-8, with line breaks, with an ending in capitals or none at all.
cp album/a/0005.tif $'album/caf\xe9\n.TIF'
cp album/a/0015.jpg album/without
echo "no picture" >album/README
index_says "read=2 added=2"
expect 0 kith search album.kith album/a/0005.tif -k 2
grep -q '?' out || fail "control characters reach the terminal: $(cat out)"
mv $'album/caf\xe9\n.TIF' $'album/\xff.tif'
index_says "read=1 moved=1"
rm $'album/\xff.tif' album/without album/README
index_says "removed=2"

# Links: no loops; hidden ones and excluded ones stay outside, and are remembered to.
ln -s ../album album/up
ln -s loop album/loop
mkdir album/.thumbs
cp album/a/0000.jpg album/.thumbs/t.jpg
index_says ""
index_says "read=1 added=1" --hidden
index_says ""
index_says "removed=1" --exclude .thumbs
index_says ""
index_says "removed=6" --exclude 'e'  --exclude .thumbs
index_says "read=7 added=7" --exclude ''
rm -r album/.thumbs album/up album/loop
index_says "removed=1"

# ---- bad files ----
mkdir album/bad
"$tools/make_pictures" bad album/bad
n=$(find album/bad -type f | wc -l)
index_says "read=$n bad=$n"
index_says "bad=$n" # and are not tried again
expect 0 kith bad album.kith --json
[ "$(wc -l <out)" = "$n" ] || fail "$(cat out)"
for line in 'bad/huge.png.*megapixels' 'bad/bomb.gif.*megapixels' 'bad/empty.jpg.*empty' 'bad/text.jpg.*not a JPEG' 'bad/cut.jpg.*broken'; do
    grep -qE "$line" out || fail "no $line in $(cat out)"
done
expect 0 kith bad album.kith
[ "$(wc -l <out)" = $((n + 1)) ] || fail "$(cat out)"
index_says "read=$n bad=$n" --retry
# One is mended, one is removed, a good one breaks.
"$tools/make_pictures" one album/bad/cut.jpg 4242
rm album/bad/text.jpg
head -c 700 album/a/0015.jpg >half
cat half >album/a/0015.jpg
index_says "read=2 added=1 removed=1 bad=$((n - 1))"
# Larger ones than allowed are bad until more is allowed.
expect 0 kith index album -o small.kith --json --max-megapixels 0.02
[ "$(report added)" = 0 ] || fail "$(cat out)"
expect 0 kith bad small.kith
grep -q '200 x 150' out || fail "$(cat out)"
expect 0 kith index album -o small.kith --json
[ "$(report added)" -ge 28 ] || fail "$(cat out)"
rm -r album/bad
index_says "removed=1 bad=1"

# A folder that may not be entered keeps its rows. (Root enters everything.)
if [ "$(id -u)" != 0 ]; then
    chmod 0 album/b
    index_says "bad=2"
    chmod 755 album/b
    index_says "bad=1"
    chmod 0 album/a/0000.jpg
    touch -d '2021-01-01' album/a/0000.jpg
    index_says "bad=2 removed=1"
    chmod 644 album/a/0000.jpg
    index_says "read=1 added=1 bad=1"
fi

# ---- the folder as a whole ----
rows=$(show album.kith | tail -n 1)
mv album album.away
expect 1 kith index album -o album.kith
said 'album: .*No such file'
mkdir album
expect 1 kith index album -o album.kith
said 'no pictures in .*/album, where there were'
[ "$(show album.kith | tail -n 1)" = "$rows" ] || fail "an empty folder has changed the rows"
rmdir album
expect 1 kith index album.away -o album.kith
said 'holds the pictures of .*/album, not of'
expect 0 kith index album.away -o album.kith --relocate --json
[ "$(report read)" = 0 ] || fail "$(cat out)"
mv album.away album
expect 0 kith index album -o album.kith --relocate --json
mkdir nothing
expect 1 kith index nothing
said 'no pictures in'
[ ! -e nothing.kith ] || fail "a collection of nothing was made"
expect 1 kith index album/a/0000.jpg
expect 1 kith index nosuchfolder
said 'nosuchfolder: No such file'
cp -r album twin
expect 0 kith index twin -o twin.kith --json
rm -r twin
mkdir twin
expect 0 kith index twin -o twin.kith --prune --json
[ "$(report removed)" -ge 20 ] || fail "$(cat out)"

# ---- features ----
expect 1 kith index album -o album.kith --descriptor plain
said 'retrain'
expect 0 kith index album -o album.kith --descriptor plain --retrain --json
[ "$(report changed)" = "$(report found)" ] || [ "$(report changed)" = $(($(report found) - 1)) ] || fail "$(cat out)"
show album.kith >/dev/null || fail "after --retrain"
expect 1 kith index album -o album.kith --descriptor classic
said 'retrain'
index_says "bad=1"
expect 1 kith index album -o album.kith --model nosuch.onnx --retrain
expect 2 kith index album -o album.kith --model nosuch.onnx --descriptor classic
expect 2 kith index album --descriptor fancy
expect 2 kith index album --mean 3
expect 2 kith index album --model x.onnx --mean 1,2
expect 2 kith index album --jobs 5000
expect 2 kith index album --max-megapixels 0
expect 2 kith index

# ---- something else than a gallery ----
echo hello >text.kith
expect 1 kith index album -o text.kith
[ "$(cat text.kith)" = hello ] || fail "a text file was overwritten"
expect 1 kith bad text.kith
expect 1 kith bad nosuch.kith
expect 1 kith index album -o nowhere/album.kith
if [ "$(id -u)" != 0 ]; then
    mkdir shut
    chmod 555 shut
    expect 1 kith index album -o shut/album.kith
fi
# A collection in a folder that cannot be written can be searched.
mkdir fixed
cp album.kith fixed/
chmod 555 fixed
expect 0 kith search fixed/album.kith album/a/0000.jpg -k 1
chmod 755 fixed

[ -n "$before" ] || fail "nothing was shown"
echo "pictures.sh: all good"
