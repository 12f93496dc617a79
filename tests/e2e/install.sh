#!/usr/bin/env bash
# An installed kith is found by an outside program through CMake and through pkg-config, in C and C++, shared and static.
set -euo pipefail
build=${KITH_BUILD:?} source=${KITH_SOURCE:?}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
prefix=$scratch/prefix
fail() { echo "install.sh: $*" >&2; exit 1; }

cmake --install "$build" --prefix "$prefix" >"$scratch/install.log"
# Moved: nothing in it may know where it was installed first.
mv "$prefix" "$scratch/moved"
prefix=$scratch/moved
libdir=$(dirname "$(find "$prefix" -name 'libkith.so')")

# What a packager expects to find.
for file in bin/kith share/man/man1/kith.1 share/man/man1/kith-build.1 share/bash-completion/completions/kith \
    include/kith/kith.h include/kith/index.h; do
    [ -e "$prefix/$file" ] || fail "$file is not installed"
done
version=$("$prefix/bin/kith" --version)
[[ $version =~ ^kith\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "kith --version said: $version"
version=${version#kith }
for library in "$libdir"/libkith*.so; do
    name=$(basename "$library" .so)
    [ -e "$libdir/$name.a" ] || fail "$name.a is not installed"
    dynamic=$(readelf -d "$library")
    [[ $dynamic =~ SONAME.*\[$name\.so\.[0-9]+\] ]] || fail "$name.so has no soname"
    if [[ $dynamic =~ R(UN)?PATH ]]; then fail "$name.so has a run path"; fi
    [ -e "$libdir/pkgconfig/${name#lib}.pc" ] || fail "${name#lib}.pc is not installed"
done
# The plug-in of the networks, beside the libraries.
[ ! -e "$build/lib/kith/libkith-dnn.so" ] || [ -e "$libdir/kith/libkith-dnn.so" ] || fail "libkith-dnn.so is not installed"
# The headers of the tree and the installed ones are the same set, where all libraries were built.
[ "$(find "$libdir" -name 'libkith*.so' | wc -l)" -lt 6 ] || diff <(cd "$source/include/kith" && ls) <(cd "$prefix/include/kith" && ls) || fail "headers are missing"

cp -r "$source/tests/e2e/install" "$scratch/outside"
cd "$scratch/outside"

# 1. CMake.
components=(kith)
for component in text engine image gallery hdf5; do
    [ -e "$libdir/libkith-$component.so" ] && components+=("$component")
done
cmake -S . -B build -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DCOMPONENTS="$(IFS=';'; echo "${components[*]}")" >cmake.log ||
    { cat cmake.log >&2; fail "find_package(kith) failed"; }
cmake --build build >build.log || { cat build.log >&2; fail "the outside project does not build"; }
ran=0
for program in build/outside-*; do
    if [ ! -x "$program" ] || [ ! -f "$program" ]; then continue; fi
    [ "$("$program")" = "kith $version: row 42 is its own nearest" ] || fail "$program gave a wrong answer"
    ran=$((ran + 1))
done
[ $ran -ge 4 ] || fail "only $ran programs were built"
for component in "${components[@]}"; do
    grep -q "component $component: shared and static" cmake.log || fail "component $component is not there both ways"
done
if cmake -S . -B build2 -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DCOMPONENTS=nonsense >cmake2.log 2>&1; then
    fail "find_package accepted an unknown component"
fi

# 2. pkg-config.
export PKG_CONFIG_PATH=$libdir/pkgconfig
[ "$(pkg-config --modversion kith)" = "$version" ] || fail "kith.pc has another version"
for language in "c -std=c17 cc" "c++ -std=c++17 c++"; do
    read -r name standard compiler <<<"$language"
    # shellcheck disable=SC2046
    "$compiler" -x "$name" "$standard" outside.c -x none -o "shared-$name" $(pkg-config --cflags --libs kith)
    [ "$(LD_LIBRARY_PATH=$libdir "./shared-$name")" = "kith $version: row 42 is its own nearest" ] || fail "pkg-config, shared, $name"
    # shellcheck disable=SC2046
    "$compiler" -x "$name" "$standard" outside.c -x none -o "static-$name" $(pkg-config --cflags kith) \
        "$libdir/libkith.a" $(pkg-config --libs --static kith | sed 's/-lkith\b//g')
    dynamic=$(readelf -d "static-$name")
    if [[ $dynamic == *libkith* ]]; then fail "the static program needs libkith.so"; fi
    [ "$("./static-$name")" = "kith $version: row 42 is its own nearest" ] || fail "pkg-config, static, $name"
done
for pc in "$libdir"/pkgconfig/*.pc; do
    pkg-config --exists "$(basename "$pc" .pc)" || fail "$(basename "$pc") cannot be resolved"
done
echo "installed, moved, and used from outside: ${components[*]}"
