#!/usr/bin/env bash
# kith serve: pictures, who may ask, limits, hostile requests, TLS, a clean stop. serve_api.sh and serve_page.sh have the rest.
set -euo pipefail
scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
fail() { echo "serve.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }
tools=$KITH_BUILD/bin
cd "$scratch"
mkdir album
"$tools/make_pictures" good album 30 9
kith index album -o album.kith --descriptor plain --quiet >/dev/null

# shellcheck source=tests/e2e/support/server.sh
source "${KITH_SOURCE:?}/tests/e2e/support/server.sh"
# status OPTIONS-OF-CURL...: the status of an answer, its body in `body`.
status() { curl -s -o body -w '%{http_code}' --max-time 20 "$@" || true; }
expect() { # expect STATUS OPTIONS...
    local wanted=$1 got
    shift
    got=$(status "$@")
    [ "$got" = "$wanted" ] || fail "$got instead of $wanted: $*: $(head -c 300 body)"
}

# ---- the interface ----
serve album.kith --log access.jsonl --max-body 1 --max-k 50
picture=$(find album -name '*.jpg' | sort | head -n 1)
expect 200 "$base/healthz"
expect 200 --data-binary "@$picture" "$base/v1/collections/album/search/picture?k=5"
python3 - "$picture" <<'END'
import json, sys
answer = json.load(open("body"))
assert len(answer["results"]) == 5 and answer["complete"] is True, answer
first = answer["results"][0]
assert sys.argv[1] == "album/" + first["payload"]["path"] and first["distance"] < 1e-6, first
assert [r["distance"] for r in answer["results"]] == sorted(r["distance"] for r in answer["results"])
json.dump(first["key"], open("key", "w"))
END
key=$(cat key)
# The row's picture and thumbnail, by key, and what the program prints for the same query.
expect 200 "$base/v1/collections/album/rows/$key/picture"
cmp -s body "$picture" || fail "the picture is another"
curl -sI "$base/v1/collections/album/rows/$key/thumbnail" | tr -d "\r" >headers.txt
grep -q '^Content-Type: image/jpeg$' headers.txt || fail "$(cat headers.txt)"
tag=$(sed -n 's/^ETag: //p' headers.txt)
expect 304 -H "If-None-Match: $tag" "$base/v1/collections/album/rows/$key/thumbnail"
kith search album.kith "$picture" -k 5 --json >cli.json
expect 200 --data-binary "@$picture" "$base/v1/collections/album/search/picture?k=5"
python3 - <<'END'
import json
cli = [(r["key"], round(r["distance"], 6)) for r in json.load(open("cli.json"))["results"]]
web = [(r["key"], round(r["distance"], 6)) for r in json.load(open("body"))["results"]]
assert cli == web, (cli, web)
END
# Examples leave themselves out; a row is not like itself.
expect 200 -H 'Content-Type: application/json' -d "{\"like\":[$key],\"k\":50}" "$base/v1/collections/album/search"
python3 - "$key" <<'END'
import json, sys
keys = [r["key"] for r in json.load(open("body"))["results"]]
assert int(sys.argv[1]) not in keys and len(keys) == 29 and len(set(keys)) == 29, keys
END

# ---- what is refused ----
search=$base/v1/collections/album/search
pictures=$search/picture
json=(-H 'Content-Type: application/json')
expect 400 -X POST "$pictures"
expect 400 --data-binary "@$picture" "$pictures?k=0"
expect 400 --data-binary "@$picture" "$pictures?k=51"
expect 400 --data-binary "@$picture" "$pictures?k=abc"
expect 400 --data-binary "@$picture" "$pictures?min_score=2"
for body in '' '[]' '{' '{"like":[]}' '{"like":[0]}' '{"like":[1],"k":0}' '{"like":[1],"k":1e9}' \
    '{"like":[1],"like":[2]}' '{"vector":[1,2]}' '{"vector":["a"]}' '{"like":[1],"vector":[1]}' '{"unlike":[1]}' \
    '{"like":[1],"min_score":"7"}' '{"like":[1.5]}' '{"like":{}}'; do
    expect 400 "${json[@]}" -d "$body" "$search"
done
expect 404 "${json[@]}" -d '{"like":[9223372036854775807]}' "$search"
expect 400 "${json[@]}" -d '{"like":[9223372036854775808]}' "$search"
expect 404 "${json[@]}" -d '{"like":["a"]}' "$search"
deep=$(printf '[%.0s' {1..5000})
expect 400 "${json[@]}" -d "{\"like\":$deep" "$search"
expect 413 --data-binary @<(head -c 2000000 /dev/zero) "$search"
expect 413 -H 'Transfer-Encoding: chunked' --data-binary @<(head -c 2000000 /dev/zero) "$search"
head -c 5000 "$picture" >cut.jpg
got=$(status --data-binary @cut.jpg "$pictures")
case $got in 200 | 422) ;; *) fail "$got for a cut picture" ;; esac
expect 405 -X DELETE "$base/v1/collections"
expect 405 -X POST "$base/"
curl -s -o /dev/null -D head -X DELETE "$base/v1/collections/album/rows"
grep -qi '^allow: GET, HEAD, POST.$' head || fail "$(cat head)"
expect 404 "$base/nothing"
for name in '..' '%2e%2e' '../album' '..%2f..%2fetc%2fpasswd' '%00' 'album.kith' 'ALBUM' '%ff'; do
    got=$(status --path-as-is "$base/v1/collections/$name/rows/1")
    [ "$got" = 404 ] || fail "$got for the name $name"
    got=$(status --path-as-is "$base/$name")
    [ "$got" = 404 ] || [ "$got" = 200 ] || fail "$got for the path $name"
    if [ "$got" = 200 ]; then grep -q '<title>kith' body || fail "the path $name gave a file"; fi
done
for key_name in 0 -1 1.5 1x 99999999999999999999 abc '%31%00'; do
    got=$(status "$base/v1/collections/album/rows/$key_name")
    case $got in 404 | 200) ;; *) fail "$got for the key $key_name" ;; esac
done
# It only reads, unless it is told otherwise.
expect 403 "${json[@]}" -d '{"rows":[{}]}' "$base/v1/collections/album/rows"
expect 403 -X DELETE "$base/v1/collections/album"
# A page of another site in a browser on this machine.
expect 403 -H 'Host: evil.example' "$base/v1/collections"
expect 403 -H 'Origin: http://evil.example' --data-binary "@$picture" "$search"
# Requests made by hand: whatever comes, it goes on. (a space for each: printf's escapes)
port=${base##*:}
while IFS= read -r raw; do
    # shellcheck disable=SC2059 # the escapes are the point
    (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf "$raw" >&3 && timeout 0.2 cat <&3 >/dev/null) 2>/dev/null || true
done <<'END'
\r\n\r\n
GET
GET / HTTP/9.9\r\n\r\n
GET /%%zz%%%%%% HTTP/1.1\r\nHost: localhost\r\n\r\n
POST /v1/collections/album/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n
POST /v1/collections/album/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\nxx
POST /v1/collections/album/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nxx
POST /v1/collections/album/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n
POST /v1/collections/album/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n
GET / HTTP/1.1\r\nHost: localhost\r\nCookie: kith_token=\r\nAuthorization: Bearer \r\n\r\n
END
expect 200 "$base/healthz"
# The file of a row that became a link out of the folder is not given out.
expect 200 "$base/v1/collections/album/rows/$key/picture"
mv "$picture" moved.jpg
ln -s /etc/passwd "$picture"
expect 404 "$base/v1/collections/album/rows/$key/picture"
rm "$picture"
mkfifo "$picture"
expect 404 "$base/v1/collections/album/rows/$key/picture"
rm "$picture"
mv moved.jpg "$picture"
python3 - <<'END'
import json
lines = [json.loads(line) for line in open("access.jsonl")]
assert len(lines) > 50 and len({line["id"] for line in lines}) == len(lines)
assert all(set(line) == {"time", "id", "client", "method", "path", "status", "bytes", "ms"} for line in lines)
END

# ---- the page ----
bytes=0
for file in / /app.js /api.js /views.js /words.js /cropper.js /exact.js /style.css /icon.svg; do
    bytes=$((bytes + $(curl -s "$base$file" | wc -c)))
done
[ "$bytes" -lt 150000 ] || fail "the page weighs $bytes bytes"

# ---- many at once, and a clean stop while they ask ----
for _ in {1..8}; do
    (for _ in {1..15}; do curl -s -o /dev/null --data-binary "@$picture" "$pictures?k=3" || true; done) &
    pids+=("$!")
done
sleep 0.3
stop
wait
[ "$(curl -s -o /dev/null -w '%{http_code}' "$base/healthz" || true)" = 000 ] || fail "it still answers"

# ---- without a certificate SIGHUP ends it ----
serve album.kith
kill -HUP "$pid"
if wait "$pid"; then fail "it goes on after SIGHUP"; fi

# ---- tokens ----
kith serve --make-token --quiet >made
token=$(sed -n 1p made)
sed -n 2p made >tokens
echo "# a comment" >>tokens
serve album.kith --token-file tokens
expect 401 "$base/v1/collections"
expect 401 -H 'Authorization: Bearer wrong' "$base/v1/collections"
expect 401 -H "Authorization: Bearer $token"x "$base/v1/collections"
expect 401 "$base/v1/collections/album/rows/$key/picture"
expect 401 --data-binary "@$picture" "$base/v1/collections/album/search/picture"
expect 200 -H "Authorization: Bearer $token" "$base/v1/collections"
expect 200 -b "kith_token=$token" "$base/v1/collections/album/rows/$key/thumbnail"
expect 200 "$base/healthz"
expect 200 "$base/"
stop

# ---- TLS: a certificate that is replaced while it serves ----
certificate() { # certificate NAME: NAME.pem and NAME.key
    cat >"$1.cfg" <<END
cn = "$1.example"
ip_address = 127.0.0.1
tls_www_server
END
    certtool --generate-privkey --ecdsa --outfile "$1.key" 2>/dev/null
    certtool --generate-self-signed --load-privkey "$1.key" --template "$1.cfg" --outfile "$1.pem" 2>/dev/null
}
certificate old
certificate new
cp old.pem cert.pem
cp old.key key.pem
serve album.kith --cert cert.pem --key key.pem
case $base in https://*) ;; *) fail "$base is not https" ;; esac
expect 200 --cacert old.pem "$base/v1/collections"
expect 000 --cacert new.pem "$base/healthz"
# Ciphers of a lower level too, so that it is the server that refuses and not curl.
expect 000 --tls-max 1.1 --tlsv1.0 --ciphers 'DEFAULT@SECLEVEL=0' --cacert old.pem "$base/healthz"
expect 200 --tls-max 1.2 --cacert old.pem "$base/healthz"
expect 000 "http${base#https}/healthz"
cp new.pem cert.pem # with the old key: nothing changes
kill -HUP "$pid"
sleep 0.3
expect 200 --cacert old.pem "$base/healthz"
cp new.key key.pem
kill -HUP "$pid"
for _ in {1..50}; do
    if [ "$(status --cacert new.pem "$base/healthz")" = 200 ]; then break; fi
    sleep 0.1
done
expect 200 --cacert new.pem "$base/healthz"
expect 000 --cacert old.pem "$base/healthz"
stop

# ---- connections beyond the limit ----
serve album.kith --max-connections 2 --idle 2
exec 4<>"/dev/tcp/127.0.0.1/${base##*:}" 5<>"/dev/tcp/127.0.0.1/${base##*:}"
sleep 0.2
expect 503 "$base/healthz"
for _ in {1..20}; do # the two are silent: they are closed
    sleep 0.5
    if [ "$(status "$base/healthz")" = 200 ]; then break; fi
done
expect 200 "$base/healthz"
exec 4>&- 5>&-
stop

# ---- what does not start ----
refused() { # refused WHAT ARGUMENTS...: status 1 or 2 and one line that says what
    local what=$1 code=0
    shift
    timeout 10 kith serve "$@" >out 2>err || code=$?
    [ "$code" = 1 ] || [ "$code" = 2 ] || fail "status $code: $*"
    [ "$(wc -l <err)" -ge 1 ] || fail "no message: $*"
    grep -q -- "$what" err || fail "$(cat err)"
}
refused 'token-file' album.kith --host 0.0.0.0 --port 0
refused 'no collection and no folder' missing.kith --port 0
refused 'no collection' album --port 0
echo 'read xyz' >bad-tokens
refused 'line 1' album.kith --token-file bad-tokens --port 0
: >no-tokens
refused 'no token' album.kith --token-file no-tokens --port 0
refused 'missing' --port 0
refused 'go together' album.kith --cert old.pem --port 0
refused 'no certificate' album.kith --cert old.key --key old.key --port 0
refused 'not the key' album.kith --cert old.pem --key new.key --port 0
serve album.kith
refused 'in use' album.kith --port "${base##*:}"
stop

echo "serve.sh: all good"
