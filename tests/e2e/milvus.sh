#!/usr/bin/env bash
# The Milvus adapter: core routes with exact answers and hostile bodies, and that what it keeps outlives the server.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # a disk would only be waited for: durability is not tested here
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$scratch"' EXIT
fail() { echo "milvus.sh: line ${BASH_LINENO[0]}: $*" >&2; exit 1; }
cd "$scratch"
mkdir folder

# shellcheck source=tests/e2e/support/server.sh
source "$here/support/server.sh"
# ask PATH BODY: the answer.
ask() { curl -s --max-time 20 -d "$2" "$base/v2/vectordb/$1"; }

serve folder --write
python3 "$here/milvus_core.py" "$base" folder
python3 "$here/vearch.py" "$base"

# What was made is there after another start, schema, alias and rows.
ask collections/create '{"collectionName":"kept","dimension":2,"metricType":"L2"}' >/dev/null
ask aliases/create '{"collectionName":"kept","aliasName":"same"}' >/dev/null
ask entities/insert '{"collectionName":"kept","data":[{"id":1,"vector":[1,2],"word":"a"}]}' >/dev/null
stop
serve folder --write
[ "$(ask entities/search '{"collectionName":"same","data":[[1,4]],"outputFields":["word"]}')" = \
    '{"code":0,"data":[{"id":"1","word":"a","distance":4.0}],"topks":[1],"cost":0}' ] ||
    fail "$(ask entities/search '{"collectionName":"same","data":[[1,4]],"outputFields":["word"]}')"

stop
kith get folder/kept.kith =1 --json | grep -q '"word":"a"' || fail "$(kith get folder/kept.kith =1 --json)"
kith verify folder/kept.kith >/dev/null

# A collection that was made elsewhere can be asked, by its keys, and written to.
"$KITH_BUILD/bin/make_vectors" 50 3 1 base.fvecs
kith import folder/foreign.kith base.fvecs -q
serve folder --write
query='{"collectionName":"foreign","filter":"id >= 7 and id < 9","outputFields":["vector"]}'
ask entities/query "$query" >answer
python3 - <<'END' >vector
import json
rows = json.load(open("answer"))["data"]
assert [r["id"] for r in rows] == ["7", "8"], rows
print(json.dumps(rows[0]["vector"]))
END
ask entities/search "{\"collectionName\":\"foreign\",\"data\":[$(cat vector)],\"limit\":2}" >answer
grep -q '^{"code":0,"data":\[{"id":"7","distance":0.0},' answer || fail "$(cat answer)"
ask entities/insert '{"collectionName":"foreign","data":[{"vector":[1,2,3],"word":"new"}]}' >answer
[ "$(cat answer)" = '{"code":0,"data":{"insertCount":1,"insertIds":["51"]}}' ] || fail "$(cat answer)"
ask entities/delete '{"collectionName":"foreign","filter":"word == \"new\" or id == 1"}' >answer
ask collections/get_stats '{"collectionName":"foreign"}' >answer
[ "$(cat answer)" = '{"code":0,"data":{"rowCount":49}}' ] || fail "$(cat answer)"
stop

# Passwords are guessed at so many times a second at the most; a user who was known stays so.
kith serve --make-token --role admin >new
admin=$(head -n 1 new)
tail -n 1 new >tokens
serve folder --token-file tokens
curl -s -H "Authorization: Bearer $admin" -d '{"userName":"ann","password":"secret1"}' "$base/v2/vectordb/users/create" >/dev/null
known() { curl -s -H "Authorization: Bearer $1" -d '{}' "$base/v2/vectordb/collections/list"; }
known ann:secret1 | grep -q '^{"code":0,' || fail "$(known ann:secret1)"
known bob:secret1 | grep -q '^{"code":1800,' || fail "$(known bob:secret1)"
python3 - "$base" "$pid" <<'END'
import http.client, json, re, socket, sys, time, urllib.parse
at, pid = urllib.parse.urlsplit(sys.argv[1]).netloc, sys.argv[2]
c = http.client.HTTPConnection(at)
codes, began = {"ann": [], "nobody": []}, time.monotonic()
for i in range(200):
    name = ("ann", "nobody")[i % 2]  # the answers must not tell which of them there is
    c.request("POST", "/v2/vectordb/collections/list", "{}", {"Authorization": f"Bearer {name}:wrong{i}"})
    codes[name].append(json.loads(c.getresponse().read())["code"])
seconds = time.monotonic() - began
assert all(set(of) <= {1800, 4} for of in codes.values()) and (codes["ann"].count(4) < 10 or 4 in codes["nobody"]), codes
assert sum(of.count(1800) for of in codes.values()) <= 20 * (seconds + 2), (seconds, codes)

# The bodies of strangers are not kept, whether the name that they give is there or not.
def memory():
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) << 10
MOST, CHUNK = 64 << 20, bytes(1 << 20)
before, open_ones = memory(), []
for i in range(8):
    s = socket.create_connection(at.split(":"))
    s.settimeout(10)
    s.sendall(f"POST /v2/vectordb/entities/insert HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {('ann', 'nobody')[i % 2]}:guess{i}\r\n"
              f"Content-Length: {MOST}\r\n\r\n".encode())
    try:
        for _ in range(16):
            s.sendall(CHUNK)
    except OSError:
        pass  # it was shown the door
    open_ones.append(s)
assert memory() - before < 32 << 20, memory() - before
for s in open_ones:
    s.close()
END
known ann:secret1 | grep -q '^{"code":0,' || fail "$(known ann:secret1)"
stop

# Who may what, by users and by tokens.
mkdir rights
kith serve --make-token --role write >writer
kith serve --make-token --role read >reader
(cat tokens && tail -n 1 writer && tail -n 1 reader) >all_tokens
serve rights --token-file all_tokens
python3 "$here/milvus_rights.py" "$base" "$admin" "$(head -n 1 writer)" "$(head -n 1 reader)"
stop

# A password that is right, for the first time, may come with a large body.
serve folder --token-file tokens
python3 -c 'print("{\"pad\":\"%s\"}" % ("x" * 9000000))' >large
curl -s -H 'Authorization: Bearer ann:secret1' -d @large "$base/v2/vectordb/collections/list" | grep -q '^{"code":0,' || fail "$(tail -n 1 errors)"
curl -s -H 'Authorization: Bearer ann:secret2' -H 'Expect:' -d @large "$base/v2/vectordb/collections/list" | grep -q '^{"code":1800,' || fail "$(tail -n 1 errors)"
stop
