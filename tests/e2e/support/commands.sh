# shellcheck shell=bash
# commands.sh - what a command answers, held against what it should; for scripts that have a function fail.

# refuse STATUS PATTERN COMMAND...: the exit status, and one line on stderr that begins "kith VERB: " and matches.
refuse() {
    local wanted=$1 pattern=$2 status=0
    shift 2
    "$@" >out 2>err || status=$?
    [ "$status" = "$wanted" ] || fail "status $status instead of $wanted: $*: $(cat err)"
    [ "$(wc -l <err)" = 1 ] || fail "not one line on stderr: $*: $(cat err)"
    grep -qE "^kith [a-z]+: " err || fail "not of the form kith VERB: what: why: $(cat err)"
    grep -qiE -- "$pattern" err || fail "$*: expected '$pattern', got: $(cat err)"
}

# equals WANTED COMMAND...: what it prints.
equals() {
    local wanted=$1 got
    shift
    got=$("$@") || fail "failed: $*"
    [ "$got" = "$wanted" ] || fail "$*: '$got' instead of '$wanted'"
}
