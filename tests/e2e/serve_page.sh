#!/usr/bin/env bash
# The page of kith serve in headless Chromium, driven by playwright-core from npm; skipped aloud where one of them is not to be had.
# Screenshots stay in the build's folder screenshots/.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
CHROMIUM=$(command -v chromium || command -v chromium-browser || true)
export CHROMIUM
if [ -z "$CHROMIUM" ] || ! command -v npm node >/dev/null; then
    echo "skipped: the page in a browser (no chromium, node or npm)"
    exit 0
fi
modules=$KITH_BUILD/npm
if [ ! -d "$modules/node_modules/playwright-core" ]; then
    mkdir -p "$modules"
    if ! npm install --prefix "$modules" --no-audit --no-fund --ignore-scripts playwright-core@1.49.1 >"$modules/log" 2>&1; then
        echo "skipped: the page in a browser (playwright-core cannot be installed: $(tail -n 1 "$modules/log"))"
        exit 0
    fi
fi
scratch=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir album
"$KITH_BUILD/bin/make_pictures" good album 28 9
first=$(find album -name '*.jpg' | sort | head -n 1)
cp "$first" album/again.jpg
mkdir served
kith index album -o served/album.kith --descriptor plain --quiet >/dev/null
kith serve served --write --port 0 --quiet >address 2>errors &
pid=$!
for _ in {1..200}; do
    [ ! -s address ] || break
    sleep 0.05
done
base=$(head -n 1 address | sed 's|/$||')
curl -sf -X PUT -d '{"dim":2,"metric":"cosine"}' "$base/v1/collections/cities" >/dev/null
curl -sf -d '{"rows":[{"key":9007199254740993,"vector":[1,0]},{"key":9007199254740992,"vector":[0.6,0.8]},{"key":3,"vector":[0,1]},{"key":4,"vector":[-1,0]}]}' \
    "$base/v1/collections/cities/rows" >/dev/null
mkdir -p "$KITH_BUILD/screenshots"
NODE_PATH=$modules/node_modules timeout 300 node "$here/serve_page.mjs" "$base" "$first" "$KITH_BUILD/screenshots"
echo "serve_page.sh: all good"
