#!/usr/bin/env bash
# bootstrap without apt-get, and its refusals. (What it installs and builds is seen by whoever runs it.)
set -euo pipefail
source=${KITH_SOURCE:?}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "bootstrap.sh: $*" >&2; exit 1; }

# A system with the usual tools, but no apt-get and no dpkg.
mkdir "$scratch/bin"
for tool in bash env dirname cat printf id grep awk find sort; do
    ln -s "$(command -v $tool)" "$scratch/bin/$tool"
done
status=0
PATH=$scratch/bin "$scratch/bin/bash" "$source/bootstrap" build >"$scratch/out" 2>"$scratch/err" || status=$?
[ $status = 1 ] || fail "without apt-get it ended with $status"
for package in cmake ninja-build libvips-dev libsqlite3-dev libutf8proc-dev libvlfeat-dev; do
    grep -qw -- "$package" "$scratch/err" || fail "without apt-get it does not name $package"
done

refuse() { # STATUS PATTERN ARGUMENTS...
    local wanted=$1 pattern=$2 status=0
    shift 2
    "$source/bootstrap" "$@" >"$scratch/out" 2>&1 || status=$?
    [ "$status" = "$wanted" ] || fail "bootstrap $*: status $status instead of $wanted"
    grep -qE -- "$pattern" "$scratch/out" || fail "bootstrap $*: said $(cat "$scratch/out")"
}
refuse 2 '^usage:'
refuse 2 '^usage:' nonsense
refuse 1 'not a folder' demo "$scratch/missing"
refuse 1 'unknown option' demo --nonsense
refuse 1 'unknown option' test --nonsense
refuse 0 '^usage:' --help
refuse 0 '^demo: .*tuxpaint-stamps-default' packages
echo "bootstrap: names what is missing, refuses what it does not know"
