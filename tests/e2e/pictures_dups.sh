#!/usr/bin/env bash
# kith dups: copies of drawn pictures, and of real photos where they are, are found and nothing else is.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "pictures_dups.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }
make_pictures() { "$KITH_BUILD/bin/make_pictures" "$@"; }
data=$(realpath "${KITH_DATA:-${KITH_SOURCE:?}/../shared/data}" 2>/dev/null || true)
cd "$scratch"

expect() { # STATUS COMMAND...: the exit status, and one line on stderr exactly when it is not 0 (but for remarks)
    local wanted=$1 status=0
    shift
    "$@" >out 2>err || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*: $(cat err)"
    if [ "$wanted" != 0 ] && [ "$(wc -l <err)" != 1 ]; then fail "not one line on stderr: $*: $(cat err)"; fi
}
# groups: of the last --json, a line each: the picture to keep, then its copies by name.
groups() {
    sed -E 's/.*"group":([0-9]+),.*"path":"[^"]*\/([^"/]+)","keep":(true|false).*/\1 \3 \2/' out | sort -k1,1n -k2,2r -k3,3 |
        awk '$1 != last { if (last) print ""; last = $1; printf "%s", $3; next } { printf " %s", $3 } END { if (last) print "" }'
}

# ---- drawn ones: 20 of which 4 have copies ----
mkdir album
make_pictures good album 20 7
find album -type f | sort >files
mapfile -t files <files
cp "${files[3]}" album/copied.jpg # the same bytes; the first one is older
touch -d 2020-01-01 "${files[3]}"
make_pictures copy "${files[5]}" album/small.jpg 100
make_pictures copy "${files[5]}" album/smaller.webp 64
make_pictures copy "${files[8]}" album/saved.jpg 200
expect 0 kith index album -o album.kith -q
expect 0 kith dups album.kith --json -q
[ "$(groups | wc -l)" = 3 ] || fail "groups: $(cat out)"
groups | sort >found
printf '%s\n' "$(basename "${files[3]}") copied.jpg" "$(basename "${files[5]}") small.jpg smaller.webp" \
    "$(basename "${files[8]}") saved.jpg" | sort >wanted
# Which of two files of one size is kept is told by their bytes: the order within that group is left open.
tr ' ' '\n' <found | sort | cmp - <(tr ' ' '\n' <wanted | sort) || fail "$(cat found) instead of $(cat wanted)"
grep -qx "$(basename "${files[3]}") copied.jpg" found || fail "the older of two equal files is not kept: $(cat found)"
grep -qx "$(basename "${files[5]}") small.jpg smaller.webp" found || fail "the largest is not kept: $(cat found)"
grep -qE '^\{"group":1,"key":[0-9]+,"path":"/.*","keep":true,"bits":0,"score":1.0\}$' out || fail "$(head -n 1 out)"
expect 0 kith dups album.kith
grep -q '3 groups of 7 pictures among 24; 4 could go' err || fail "$(cat err)"
[ "$(grep -c keep out)" = 4 ] || fail "$(cat out)" # the heading and three
expect 0 kith dups album.kith --bits 0 --json -q
groups | grep -q copied.jpg || fail "equal files are not found without bits: $(cat out)"
expect 0 kith dups album.kith --min-score 1 --bits 0 --json -q
[ "$(groups)" = "$(basename "${files[3]}") copied.jpg" ] || [ "$(groups)" = "copied.jpg $(basename "${files[3]}")" ] ||
    fail "only the same features: $(groups)"

# The report: whole and self-contained.
expect 0 kith dups album.kith --html dups.html
[ "$(grep -c '<section>' dups.html)" = 3 ] || fail "sections"
[ "$(grep -o 'data:image/jpeg' dups.html | wc -l)" = 7 ] || fail "thumbnails"
if grep -qE '(src|href)="[^d]' dups.html; then fail "the report links to something"; fi
[ -z "$(find . -name '*.tmp')" ] || fail "a temporary file is left"

# Nothing twice; nothing at all; wrong usage.
rm album/copied.jpg album/small.jpg album/smaller.webp album/saved.jpg
expect 0 kith index album -o album.kith -q
expect 0 kith dups album.kith --json
[ ! -s out ] || fail "$(cat out)"
expect 1 kith dups nothing.kith
expect 2 kith dups
expect 2 kith dups album.kith --bits 33
expect 2 kith dups album.kith --min-score 2
expect 1 kith dups album.kith --html nowhere/dups.html

# ---- real photos ----
if [ ! -d "$data/images/photos" ]; then
    echo "pictures_dups.sh: no $data/images/photos: the part on real photos is skipped"
    exit 0
fi
# 84 of the thousand; under a sanitizer 56, which with their copies are enough to train on (KITH_PHOTO_STRIDE=1: all)
stride=12
case $KITH_BUILD in *asan | *tsan) stride=18 ;; esac
stride=${KITH_PHOTO_STRIDE:-$stride}
mkdir photos
find "$data/images/photos" -name '*.JPEG' | sort | awk -v stride="$stride" 'NR % stride == 3 % stride' >list
while read -r file; do
    name=$(basename "$file" .JPEG)
    cp "$file" "photos/$name.jpg"
    make_pictures copy "$file" "photos/$name-copy.jpg" 240
done <list
expect 0 kith index photos -o photos.kith -q
expect 0 kith dups photos.kith --json -q
groups >found
right=$(awk 'NF == 2 { a = $1; b = $2; sub(/(-copy)?\.jpg$/, "", a); sub(/(-copy)?\.jpg$/, "", b); n += a == b } END { print n + 0 }' found)
echo "photos: $right of $(wc -l <list) photos are found with their copies, in $(wc -l <found) groups"
[ "$right" = "$(wc -l <found)" ] || fail "a group is wrong: $(cat found)"
[ $((right * 100)) -ge $(($(wc -l <list) * 95)) ] || fail "copies are missed"
