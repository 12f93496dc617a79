#!/usr/bin/env bash
# An index that is killed, interrupted, out of disk, robbed of its decoders, or not alone.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "pictures_killed.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }
tools=$KITH_BUILD/bin
seed=${KITH_TEST_SEED:-1}
RANDOM=$seed
echo "KITH_TEST_SEED=$seed"
cd "$scratch"
mkdir album
"$tools/make_pictures" good album 110 9
mkdir album/bad
"$tools/make_pictures" bad album/bad

# The decoders of a run of `kith index ... -o NAME`: the children of its only child.
decoders() {
    local nursery
    nursery=$(pgrep -P "$1") || return 0
    pgrep -P "$nursery" || true
}
# Nothing of these processes may be left some seconds later.
all_gone() {
    local pid round
    for round in {1..100}; do
        for pid in "$@"; do
            if [ -e "/proc/$pid/stat" ] && ! grep -qE '\) Z ' "/proc/$pid/stat" 2>/dev/null; then
                sleep 0.05
                continue 2
            fi
        done
        return 0
    done
    fail "process $pid is still there after $round rounds"
}
same_as_whole() {
    "$tools/show_collection" whole.kith >whole.txt
    kith bad whole.kith >whole.bad
    "$tools/show_collection" "$1" >now.txt || fail "$1 is not sound"
    cmp -s whole.txt now.txt || fail "$1 differs from an uninterrupted run: $(diff whole.txt now.txt | head -n 5)"
    kith bad "$1" >now.bad
    cmp -s whole.bad now.bad || fail "$1 has other bad files: $(diff whole.bad now.bad | head -n 5)"
}

# How many rows there are so far.
rows_of() {
    local n
    n=$("$tools/show_collection" "$1" 2>/dev/null | sed -n 's/^rows \([0-9]*\) .*/\1/p') || true
    echo "${n:-0}"
}

# ---- kill -9, again and again, until a run gets through ----
killed() { # killed NAME ROUNDS STEP [OPTIONS]: ROUNDS runs that die within round * STEP seconds
    local name=$1 rounds=$2 step=$3 round children kills=0 pid
    shift 3
    for ((round = 1; round <= rounds; round++)); do
        kith index album -o "$name.kith" --batch 16 --jobs $((1 + round % 3)) "$@" >/dev/null 2>err &
        pid=$!
        # The later the round, the longer it may live: the first die at the start, the last ones get far.
        sleep "$(awk -v r="$RANDOM" -v round="$round" -v step="$step" 'BEGIN { printf "%.3f", r / 32768 * step * round }')"
        children=$(decoders "$pid" 2>/dev/null || true)
        if kill -9 "$pid" 2>/dev/null; then
            wait "$pid" 2>/dev/null || true
            kills=$((kills + 1))
            # shellcheck disable=SC2086 # a list of numbers
            all_gone "$pid" $children
            [ ! -e "$name.kith" ] || "$tools/show_collection" "$name.kith" >/dev/null || fail "$name after kill $kills"
        fi
    done
    echo "$name: killed $kills times"
}
kith index album -o whole.kith --batch 16 --descriptor plain >/dev/null
killed plain 12 0.15 --descriptor plain
kith index album -o plain.kith --batch 16 --descriptor plain >/dev/null || fail "plain after kills"
same_as_whole plain.kith
# From one description to another: rows without vectors are what is left to do.
case ${KITH_LONG:-$KITH_BUILD} in
*asan | *tsan) echo "skipped under a sanitizer, for it takes minutes (KITH_LONG=1): killed while the classic descriptor trains" ;;
*)
    kith index album -o whole.kith --batch 16 --descriptor classic --retrain >/dev/null
    mv plain.kith classic.kith
    mv plain.kith.d classic.kith.d
    killed classic 3 2 --descriptor classic --retrain
    kith index album -o classic.kith --batch 16 --json >out || fail "classic after kills" # goes on with what was begun
    if grep -q '"features":"plain' out; then # every run died before it had learnt anything
        kith index album -o classic.kith --batch 16 --descriptor classic --retrain >/dev/null
    fi
    same_as_whole classic.kith
    ;;
esac

# ---- Ctrl-C ----
mkdir small slow
cp album/[a-e]/000* album/[a-e]/001* small/ # 20, few enough to need no training
for i in {1..4}; do cp -r small "slow/$i"; done # more to do
kith index slow -o stopped.kith --descriptor plain --batch 16 >out 2>err &
pid=$!
for _ in {1..200}; do
    sleep 0.05
    if [ "$(rows_of stopped.kith)" -gt 0 ]; then break; fi
done
children=$(decoders "$pid")
kill -INT "$pid"
status=0
wait "$pid" || status=$?
if [ "$status" = 1 ]; then
    grep -q 'interrupted; stopped.kith has the .* pictures* done so far' err || fail "$(cat err)"
else
    [ "$status" = 0 ] || fail "status $status after SIGINT: $(cat err)"
    echo "it was faster than the signal"
fi
# shellcheck disable=SC2086
all_gone "$pid" $children
kith index slow -o stopped.kith >/dev/null
[ "$(rows_of stopped.kith)" = 80 ] || fail "not all pictures after Ctrl-C"

# ---- decoders that are killed and decoders that hang ----
kith index slow -o robbed.kith --descriptor plain --json --jobs 2 >out 2>err &
pid=$!
robbed=0
while kill -0 "$pid" 2>/dev/null && [ "$robbed" -lt 1 ]; do # once: a picture whose decoder dies twice is bad
    sleep 0.3
    victim=$(decoders "$pid" | head -n 1)
    if [ -n "$victim" ] && kill -SEGV "$victim" 2>/dev/null; then robbed=$((robbed + 1)); fi
done
wait "$pid" || fail "$(cat err)"
grep -q '"added":80,' out || fail "with $robbed decoders killed: $(cat out)"
# (a stop that comes when the decoders have done all their work shows nothing: then again)
for round in {1..10}; do
    rm -rf hung.kith hung.kith.d
    kith index slow -o hung.kith --descriptor plain --json --jobs 2 --batch 4 --timeout 5 >out 2>err &
    pid=$!
    victim=
    for _ in {1..500}; do
        if [ "$(rows_of hung.kith)" -gt 0 ]; then victim=$(decoders "$pid" | head -n 1); fi
        if [ -n "$victim" ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.01
    done
    [ -z "$victim" ] || kill -STOP "$victim" 2>/dev/null || true
    wait "$pid" || fail "$(cat err)"
    if ! grep -q '"added":80,' out; then break; fi
    echo "round $round: they were faster than the signal"
done
kith bad hung.kith >bad.txt
[ "$(grep -c 'decoding took longer than 5 s' bad.txt)" = 1 ] || fail "a decoder that hangs costs one picture: $(cat bad.txt) $(cat out)"
grep -q '"added":79,' out || fail "$(cat out)"
kith index slow -o hung.kith --retry --json >out
grep -q '"added":1,' out || fail "$(cat out)"

# ---- a full disk ----
# (a limit on the size of files stands in for it: writing fails in the middle)
kith index album -o whole.kith --batch 16 --descriptor plain --retrain >/dev/null
status=0
(trap '' XFSZ; ulimit -f 100; exec kith index album -o full100.kith --descriptor plain) >out 2>err || status=$?
if [ "$status" != 1 ] || [ "$(wc -l <err)" != 1 ]; then fail "status $status without room for a collection: $(cat err)"; fi
[ ! -e full100.kith ] || fail "a collection that could not be made is left"
for limit in 400 700; do
    status=0
    (trap '' XFSZ; ulimit -f "$limit"; exec kith index album -o "full$limit.kith" --descriptor plain --batch 16) >out 2>err || status=$?
    if [ "$status" != 1 ] || [ "$(wc -l <err)" != 1 ]; then fail "status $status with a full disk: $(cat err)"; fi
    kith index album -o "full$limit.kith" --batch 16 >/dev/null || fail "after a full disk"
    same_as_whole "full$limit.kith"
done

# ---- two at once ----
kith index slow -o both.kith --descriptor plain >out1 2>err1 &
one=$!
for _ in {1..200}; do
    [ ! -e both.kith ] || break
    sleep 0.02
done
sleep 0.1
status=0
kith index slow -o both.kith --descriptor plain >out2 2>err2 || status=$?
wait "$one" || fail "the first of two: $(cat err1)"
if [ "$status" = 0 ]; then
    echo "the first was done before the second began"
else
    [ "$status" = 1 ] || fail "the second of two: status $status"
    grep -q 'being indexed by another process' err2 || fail "the second of two: $(cat err2)"
fi
[ "$(rows_of both.kith)" = 80 ] || fail "two at once"

# ---- watching ----
cp -r small live
kith index live -o live.kith --watch --json >events 2>err &
pid=$!
await() { # await PATTERN: a report that says so
    for _ in {1..400}; do
        if grep -q -- "$1" events; then return 0; fi
        sleep 0.05
    done
    fail "no $1 in $(cat events err)"
}
await '"added":20,'
cp album/a/0050.jpg live/fresh.jpg
await '"added":1,'
mkdir live/deep
cp album/a/0040.tif live/deep/new.tif
cp album/b/0036.jpg live/deep/other.jpg
await '"added":2,'
mv live/deep live/deeper
await '"moved":2,'
rm live/fresh.jpg
await '"removed":1,'
kill -INT "$pid"
wait "$pid" || fail "watching does not end well: $(cat err)"
"$tools/show_collection" live.kith | grep -qP '\tdeeper/new.tif$' || fail "what was watched is not there"

echo "pictures_killed.sh: all good"
