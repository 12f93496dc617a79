#!/usr/bin/env bash
# snapshot, restore, sync and verify --against as a user runs them: killed at random moments, beside a writer, and refused.
set -euo pipefail
scratch=$(mktemp -d)
writer=
trap '[ -z "$writer" ] || kill "$writer" 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"
exec 3>&2 # what bash says about killed processes goes elsewhere
fail() { echo "rows_copies.sh: line ${BASH_LINENO[0]}: $*" >&3; exit 1; }
make_vectors=${KITH_BUILD:?}/bin/make_vectors
seed=${KITH_TEST_SEED:-$RANDOM}
RANDOM=$seed
echo "KITH_TEST_SEED=$seed"

# shellcheck source=tests/e2e/support/commands.sh
source "${KITH_SOURCE:?}/tests/e2e/support/commands.sh"
same() {
    kith verify "$1" --against "$2" --everything >out 2>&1 || fail "$1 and $2 differ: $(cat out)"
    [ "$(cut -d' ' -f1 out | sort -u | wc -l)" = 1 ] || fail "hashes differ: $(cat out)"
}
nothing_left() { # NAME: no part of a copy
    ! ls "$1".part* >/dev/null 2>&1 || fail "left behind: $(ls "$1".part*)"
}

"$make_vectors" 6000 24 1 base.fvecs 20
"$make_vectors" 500 24 2 more.fvecs 20
for ((i = 0; i < 6000; i++)); do echo "{\"name\":\"row$i\",\"n\":$i,\"where\":{\"city\":\"c$((i % 7))\"}}"; done >rows.jsonl
head -500 rows.jsonl >more.jsonl
kith import a.kith base.fvecs --payload rows.jsonl --text-key name -q
kith fields a.kith --add n:int >/dev/null
kith set a.kith =row7 --expires +100000

# A snapshot is a collection, and the same one; a segment goes along.
kith import a.kith base.fvecs --restart --payload rows.jsonl --text-key name --fold -q
kith snapshot a.kith s.kith --json >out
grep -qE '"rows": ?6000' out || fail "snapshot: $(cat out)"
same a.kith s.kith
nothing_left s.kith
kith search s.kith --like =row7 -k 3 --filter 'n < 3000' --explain >/dev/null
[ "$(kith fields a.kith)" = "$(kith fields s.kith)" ] || fail "other fields"
refuse 1 'already exists; .*kith sync' kith snapshot a.kith s.kith
refuse 1 'its own copy' kith sync a.kith a.kith
refuse 1 'missing.kith: cannot be opened' kith sync missing.kith b.kith

# Only what has changed travels.
kith import a.kith more.fvecs --payload more.jsonl --text-key name -q
kith delete a.kith =row5999 >/dev/null
kith sync a.kith s.kith --json -q >out
grep -qE '"rows": ?500, "deleted": ?1,|"rows":500,"deleted":1,' out || fail "sync: $(cat out)"
same a.kith s.kith
kith sync a.kith s.kith --json -q >out
grep -qE '"rows": ?0[,}]' out || fail "a second sync: $(cat out)"

# What differs is named: row, and what of it.
kith set s.kith =row3 --merge '{"where":{"city":"elsewhere"}}'
refuse 1 'differs from a.kith: row 4: payload.where.city is "elsewhere", there it is "c3"' kith verify a.kith --against s.kith
kith verify a.kith --against s.kith --json 2>/dev/null >out && fail "the same?"
grep -qE '"field": ?"payload.where.city"' out || fail "verify --json: $(cat out)"
refuse 1 'changes of its own.*; --replace' kith sync a.kith s.kith
kith sync a.kith s.kith --replace -q >/dev/null
same a.kith s.kith

# Back to a snapshot, beside somebody who has the collection open.
kith snapshot a.kith monday.kith -q >/dev/null
kith delete a.kith --filter 'n < 1000' >/dev/null
refuse 1 'already exists; --replace' kith restore monday.kith a.kith
refuse 1 'differs from monday.kith: row [0-9]+ is only in monday.kith' kith verify monday.kith --against a.kith
kith snapshot a.kith later.kith -q >/dev/null
kith restore monday.kith a.kith --replace -q >/dev/null
same a.kith monday.kith
refuse 1 'restored to an earlier state.*; --replace' kith sync a.kith later.kith
refuse 1 '^kith restore: missing.kith: cannot be opened' kith restore missing.kith new.kith
kith restore monday.kith new.kith -q >/dev/null
same a.kith new.kith

# Killed at random moments, with the source written to in between: what is there is never taken for a collection before it is
# whole, and the next one goes on.
for ((round = 1; round <= 8; round++)); do
    timeout -s KILL "0.$(printf '%03d' $((RANDOM % (round * 10 + 15) + 5)))" kith sync a.kith k.kith -q >/dev/null 2>&1 || true
    if [ -e k.kith ]; then
        kith verify k.kith >/dev/null || fail "killed, and not sound"
    elif [ -e k.kith.part ]; then
        refuse 1 'not finished|not a kith collection|not a collection' kith stats k.kith.part
    fi
    kith set a.kith "=row$((RANDOM % 3000))" --merge "{\"round\":$round}"
done 2>/dev/null
kith sync a.kith k.kith --json -q >out
same a.kith k.kith
nothing_left k.kith

# Snapshots that are killed beside a writer that never stops; each that ends is of one state: batches of 1500.
"$make_vectors" 1500 24 1 batch.fvecs 20
kith import w.kith base.fvecs -q
(while :; do kith import w.kith batch.fvecs --restart -q || exit 1; done) 2>/dev/null &
writer=$!
for ((round = 1; round <= 3; round++)); do
    timeout -s KILL "0.0$((RANDOM % 89 + 10))" kith snapshot w.kith "w$round.kith" -q >/dev/null 2>&1 || true
    [ -e "w$round.kith" ] || kith snapshot w.kith "w$round.kith" -q >/dev/null || fail "a snapshot beside a writer"
    kith verify "w$round.kith" >/dev/null || fail "a snapshot beside a writer is not sound"
    [ $(($(kith count "w$round.kith") % 1500)) = 0 ] || fail "half a batch in a snapshot: $(kith count "w$round.kith")"
    nothing_left "w$round.kith"
done 2>/dev/null
kill "$writer" 2>/dev/null || true
wait "$writer" 2>/dev/null || true
writer=

# Interrupted, as by Ctrl-C: one line, status 1, and the next one goes on.
kith import w.kith base.fvecs --restart -q
kith sync w.kith i.kith -q >out 2>err &
pid=$!
sleep 0.03
kill -INT $pid 2>/dev/null || true
wait $pid || [ "$(wc -l <err)" = 1 ] || fail "interrupted: $(cat err)"
kith sync w.kith i.kith -q >/dev/null
same w.kith i.kith
nothing_left i.kith

# A damaged snapshot is not restored, a damaged source not copied.
cp monday.kith bad.kith
size=$(stat -c %s bad.kith)
for ((at = size / 2; at < size / 2 + 200000; at += 5000)); do printf '\377\377\377\377' | dd of=bad.kith bs=1 seek="$at" conv=notrunc status=none; done
refuse 1 'bad.kith' kith restore bad.kith fresh.kith
[ ! -e fresh.kith ] || fail "a damaged snapshot was restored"

# Over another collection only when told.
refuse 1 'is another collection' kith sync w.kith a.kith
kith sync w.kith a.kith --replace -q >/dev/null
same w.kith a.kith
refuse 1 'not a collection|not a kith' kith sync a.kith base.fvecs
