#!/usr/bin/env bash
# The NEON kernels: base, simd and the tiled product, cross-built for AArch64 with their unit tests into static
# programs that run under qemu-user. Skips aloud where the cross compiler or the emulator is missing.
set -euo pipefail
source=${KITH_SOURCE:-$(cd "$(dirname "$0")/../.." && pwd)}
compiler=$(command -v aarch64-linux-gnu-gcc || true)
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
if [ -z "$compiler" ]; then echo "neon.sh: skipped: no aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu)"; exit 0; fi
if [ -z "$emulator" ]; then echo "neon.sh: skipped: no qemu-aarch64 (Debian: qemu-user)"; exit 0; fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The one header that is needed beside libc's: xxHash is header-only here, and knows AArch64.
mkdir "$scratch/include"
xxhash=$(printf '#include <xxhash.h>\n' | cc -E -M -xc - | tr ' ' '\n' | grep '/xxhash\.h$')
ln -s "$xxhash" "$scratch/include/xxhash.h"

flags=(-std=gnu17 -O2 -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -D_GNU_SOURCE -DKITH_SOURCE_DIR="\"$source\""
    -I"$source/tests/neon" -I"$source/tests/support" -I"$source/src" -I"$source/include" -I"$scratch/include")
objects=()
for file in "$source"/src/base/*.c "$source"/src/simd/*.c "$source"/src/math/product.c "$source"/tests/support/support.c; do
    object=$scratch/$(basename "$file" .c).o
    "$compiler" "${flags[@]}" -c "$file" -o "$object" &
    objects+=("$object")
    if [ $((${#objects[@]} % 2)) = 0 ]; then wait -n; fi
done
wait
for test in base simd math_product; do
    # (gcc 12's vectoriser for AArch64 fails internally on test_simd.c; it is no kernel that is compiled here)
    "$compiler" "${flags[@]}" -fno-tree-vectorize -static "$source/tests/unit/test_$test.c" "${objects[@]}" -o "$scratch/test_$test" -lm -lpthread
    echo "neon.sh: test_$test"
    (cd "$source" && "$emulator" "$scratch/test_$test") || { echo "neon.sh: test_$test failed" >&2; exit 1; }
done
