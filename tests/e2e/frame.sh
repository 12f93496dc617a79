#!/usr/bin/env bash
# The frame of the program: help, wrong usage, man pages and completion of every verb.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "frame.sh: $*" >&2; exit 1; }

# expect STATUS COMMAND...: the exit status, one line on stderr exactly when it is not 0.
expect() {
    local wanted=$1 status=0
    shift
    "$@" >"$scratch/out" 2>"$scratch/err" || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*: $(cat "$scratch/err")"
    if [ "$wanted" != 0 ] && [ "$(wc -l <"$scratch/err")" != 1 ]; then fail "not one line on stderr: $*: $(cat "$scratch/err")"; fi
}

# A word that is only the first of verbs ("text") stands for each of them.
mapfile -t verbs < <(kith --complete '' | grep -v '^-' | while read -r word; do
    [ "$word" = help ] || kith --complete "$word" '' | sed "s/^/$word /" >"$scratch/second"
    if [ "$word" != help ] && [ -s "$scratch/second" ]; then cat "$scratch/second"; else echo "$word"; fi
done)
[ ${#verbs[@]} -ge 5 ] || fail "only ${#verbs[@]} verbs"

expect 0 kith --version
grep -qE '^kith [0-9]+\.[0-9]+\.[0-9]+$' "$scratch/out" || fail "--version said $(cat "$scratch/out")"
expect 0 kith --help
cp "$scratch/out" "$scratch/help"
for verb in "${verbs[@]}"; do
    read -ra words <<<"$verb"
    grep -qE "^  $verb +[a-z]" "$scratch/help" || fail "kith --help does not name $verb"
    expect 0 kith "${words[@]}" --help
    grep -q '^examples:' "$scratch/out" || fail "kith $verb --help shows no example"
    grep -q "kith $verb" "$scratch/out" || fail "kith $verb --help does not show itself"
    if awk 'length > 100' "$scratch/out" | grep -v '^  \$ ' | grep .; then fail "kith $verb --help has overlong lines"; fi
    cp "$scratch/out" "$scratch/long"
    expect 0 kith help "${words[@]}"
    cmp -s "$scratch/out" "$scratch/long" || fail "kith help $verb is not kith $verb --help"

    expect 2 kith "${words[@]}" --no-such-option
    grep -q "^kith $verb: --no-such-option: unknown option" "$scratch/err" || fail "kith $verb: $(cat "$scratch/err")"
    expect 2 kith "${words[@]}" -%
    if grep -q -- ' --threads' "$scratch/long"; then
        expect 2 kith "${words[@]}" --threads many
        expect 2 kith "${words[@]}" --threads 5000
        expect 2 kith "${words[@]}" --threads
    fi
    # Every example of the help is itself correct usage: its options exist.
    while read -r option; do
        grep -qE -- "(^| )$option( |$|,)" "$scratch/long" || fail "an example of $verb uses $option, which it does not have"
    done < <(sed -n '/^examples:/,$p' "$scratch/long" | grep '^  \$ kith' | sed 's/[|>].*//' | grep -oE -- ' --[a-z-]+' | tr -d ' ' | sort -u)

    kith --man "$verb" >"$scratch/kith-${verb// /-}.1"
    for section in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' EXAMPLES; do
        grep -q "^\.Sh $section" "$scratch/kith-${verb// /-}.1" || fail "the man page of $verb has no section $section"
    done
    kith --complete "${words[@]}" -- >"$scratch/out"
    grep -qx -- --help "$scratch/out" || [ "$verb" = help ] || fail "completion of $verb does not offer --help"
done
kith --man >"$scratch/kith.1"
if command -v mandoc >/dev/null; then mandoc -T lint -W warning "$scratch"/*.1; fi

# Wrong usage.
expect 2 kith nosuchverb
expect 2 kith --nosuchoption
if kith --complete text '' | grep -q dups; then
    expect 2 kith text
    expect 2 kith text dubs
    grep -q 'kith text dups' "$scratch/err" || fail "kith text dubs: $(cat "$scratch/err")"
    expect 0 kith text --help
fi
expect 2 kith help build nonsense
expect 2 kith biuld
grep -q "did you mean .kith build" "$scratch/err" || fail "no suggestion for biuld"
expect 2 kith build --metrik l2 Flat x -o y
grep -q 'did you mean --metric' "$scratch/err" || fail "no suggestion for --metrik"
expect 2 kith build
expect 2 kith build Flat
expect 2 kith build Flat a b c
expect 2 kith build Flat a --metric nonsense -o x
expect 2 env KITH_SIMD=nonsense kith families
status=0
kith >/dev/null 2>&1 || status=$?
[ $status = 2 ] || fail "kith alone ends with $status"

# What cannot be written is an error, not a silence.
if [ -e /dev/full ]; then
    status=0
    kith families >/dev/full 2>/dev/null || status=$?
    [ $status = 1 ] || fail "a full standard output ends with $status"
fi

# Completion, through bash.
complete_words() { # words...: what is offered for the last one
    bash -c 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kith; printf "%s\n" "${COMPREPLY[@]}"' \
        "${KITH_SOURCE:?}/apps/cli/kith.bash" "$@"
}
[ "$(complete_words kith fam)" = families ] || fail "fam is not completed to families"
[ "$(complete_words kith build --me)" = --metric ] || fail "--me is not completed to --metric"
[ "$(complete_words kith build --metric co)" = cosine ] || fail "co is not completed to cosine"
[ -z "$(complete_words kith build /tm)" ] || fail "a file name is completed by kith, not by the shell"
echo "${#verbs[@]} verbs: ${verbs[*]}"
