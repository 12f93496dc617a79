"""serve_api.py BASE ALBUM PICTURE PID - the interface of `kith serve`, each operation of its OpenAPI document at least once, each
answer held against it. The server, process PID, serves a folder with the collection ALBUM of pictures, and everybody may write."""
import http.client
import json
import math
import random
import re
import sqlite3
import struct
import sys
import threading
import time
import urllib.parse

from serve_client import Client

base, album, picture, pid = sys.argv[1:5]
ask = (client := Client(base)).ask
random.seed(20261121)
BIG = 2**63 - 1
DIM = 16


def vector():
    return [random.uniform(-1, 1) for _ in range(DIM)]


def floats(rows):
    return b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def wait(job, state="done"):
    for _ in range(600):
        seen = ask("GET", f"/v1/jobs/{job['id']}")
        if seen["state"] != "running":
            assert seen["state"] == state, seen
            return seen
        time.sleep(0.02)
    raise AssertionError(f"{job} does not end")


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


# ---- whether it runs; what there is ----
for path in ("/healthz", "/readyz", "/metrics"):
    ask("GET", path)
assert [c["name"] for c in ask("GET", "/v1/collections")["collections"]] == [album]
assert ask("GET", f"/v1/collections/{album}")["pictures"] is True
ask("GET", f"/v1/collections/{album}/bad")
ask("GET", "/v1/collections/nobody", status=404)

# ---- pictures ----
data = open(picture, "rb").read()
found = ask("POST", f"/v1/collections/{album}/search/picture?k=3", data, kind="application/octet-stream")
key = found["results"][0]["key"]
assert len(found["results"]) == 3 and found["results"][0]["distance"] < 1e-6 and found["width"] > 0
ask("POST", f"/v1/collections/{album}/search/picture", b"no picture", status=415, kind="application/octet-stream")
ask("POST", f"/v1/collections/{album}/search/picture?filter={urllib.parse.quote('width >')}", data, status=400, kind="application/octet-stream")
seen = ask("POST", f"/v1/collections/{album}/search/picture?k=1&vector=1", data, kind="application/octet-stream")["vector"]
assert len(seen) == ask("GET", f"/v1/collections/{album}")["dim"]
assert ask("POST", f"/v1/collections/{album}/search", {"vector": seen, "k": 1})["results"][0]["key"] == key
none = ask("POST", f"/v1/collections/{album}/search/picture?filter={urllib.parse.quote('width < 0')}", data, kind="application/octet-stream")
assert none["results"] == []
ask("GET", f"/v1/collections/{album}/rows/{key}/thumbnail")
whole = ask("GET", f"/v1/collections/{album}/rows/{key}/picture")
assert whole == data
for header, part in {"bytes=0-9": data[:10], "bytes=10-": data[10:], "bytes=-7": data[-7:], f"bytes=5-{10**12}": data[5:]}.items():
    assert ask("GET", f"/v1/collections/{album}/rows/{key}/picture", status=206, headers={"Range": header}) == part, header
ask("GET", f"/v1/collections/{album}/rows/{key}/picture", status=416, headers={"Range": f"bytes={len(data)}-"})
for header in ("bytes=9-3", "bytes=0-1,4-5", "lines=1-2", "bytes=x-"):
    assert ask("GET", f"/v1/collections/{album}/rows/{key}/picture", headers={"Range": header}) == data, header
ask("GET", f"/v1/collections/{album}/rows/99999999/picture", status=404)

copies = ask("GET", f"/v1/collections/{album}/duplicates?bits=12")
assert copies["pictures"] == 13 and any({"again.jpg"} <= {c["payload"]["path"] for c in group} for group in copies["groups"]), copies
ask("GET", f"/v1/collections/{album}/duplicates?bits=99", status=400)
points = ask("GET", f"/v1/collections/{album}/map")["points"]
assert len(points) == 13 and all(len(p) == 3 for p in points)

# ---- a collection of vectors ----
ask("PUT", "/v1/collections/cities", {"dim": DIM, "metric": "l2"}, status=201)
ask("PUT", "/v1/collections/cities", {"dim": DIM}, status=409)
for bad in ({"dim": 0}, {"dim": 1 << 40}, {"dim": 1.5}, {"dim": "8"}, {"dim": 8, "metric": "hamming"}, {"dim": 8, "metric": 7}):
    ask("PUT", "/v1/collections/other", bad, status=400)
for name in (".hidden", "-x", "a%20b", "x" * 201, "%c3%a4"):
    ask("PUT", "/v1/collections/" + name, {"dim": 4}, status=400)
ask("PUT", "/v1/collections/a%2f..%2fb", {"dim": 4}, status=404)
rows_of = "/v1/collections/cities/rows"
model = {}
rows = []
for number in range(1, 201):
    row = {"key": number, "vector": vector(), "payload": {"n": number, "kind": "ab"[number % 2], "name": f"city {number}"}}
    model[number] = row
    rows.append(row)
put = ask("POST", rows_of, {"rows": rows})
assert put["keys"] == list(range(1, 201))
assert ask("GET", "/v1/collections/cities/count")["count"] == 200

# Keys of 64 bits survive; the next free key follows the largest; texts are keys, too.
put = ask("POST", rows_of, {"rows": [{"key": BIG - 5, "payload": {"id": BIG, "least": -(2**63)}, "vector": vector()}]})
assert put["keys"] == [BIG - 5]
assert ask("GET", f"{rows_of}/{BIG - 5}")["payload"] == {"id": BIG, "least": -(2**63)}
ask("DELETE", f"{rows_of}/{BIG - 5}", status=204)
ask("GET", f"{rows_of}/{BIG - 5}", status=404)
put = ask("POST", rows_of, {"rows": [{"text": "paris", "payload": {"name": "Paris"}, "vector": vector()}]})
paris = put["keys"][0]
assert ask("GET", rows_of + "/=paris")["key"] == paris and ask("GET", f"{rows_of}/{paris}")["text"] == "paris"
ask("GET", rows_of + "/=rome", status=404)
ask("DELETE", rows_of + "/=rome", status=404)
ask("DELETE", rows_of + "/=" + 2000 * "x", status=400)  # what is wrong with a text is told, not that there is none

# A slash in a text is encoded; what stands behind it is the text's, not a part of the path.
ask("PUT", "/v1/collections/texts", {"dim": 2}, status=201)
for text in ("docs/a.txt", "/", "a/thumbnail", "a%2Fb", "//x/../y"):
    at = "/v1/collections/texts/rows/=" + urllib.parse.quote(text, safe="")
    there = ask("POST", "/v1/collections/texts/rows", {"rows": [{"text": text}]})["keys"][0]
    assert ask("GET", at)["key"] == there, text
    ask("PATCH", at, {"payload": {"n": 2000}})
    ask("GET", at + "/thumbnail", status=404)
    ask("DELETE", at, status=204)
    ask("GET", at, status=404)
ask("DELETE", "/v1/collections/texts", status=204)

# Upsert replaces, insert refuses, update changes in part.
ask("POST", rows_of, {"rows": [{"key": 7, "payload": {"a": 1}}], "mode": "insert"}, status=409)
ask("POST", rows_of, {"rows": [{"key": 7, "payload": {"extra": [1, {"x": None}]}}], "mode": "update"})
row = ask("GET", rows_of + "/7?vector=1")
assert row["payload"] == {**model[7]["payload"], "extra": [1, {"x": None}]} and distance(row["vector"], model[7]["vector"]) < 1e-9
ask("PATCH", rows_of + "/7", {"payload": {"extra": None}})
assert ask("GET", rows_of + "/7")["payload"] == model[7]["payload"]
ask("PATCH", rows_of + "/=paris", {"payload": {"n": 1000}})
ask("PATCH", rows_of + "/7", {"key": 8}, status=400)
ask("PATCH", rows_of + "/777", {"payload": {}}, status=404)
ask("POST", rows_of, {"rows": [{"key": 777}], "mode": "update"}, status=404)
ask("POST", rows_of, {"rows": [{"key": 7, "payload": {"only": True}}]})
row = ask("GET", rows_of + "/7?vector=1")
assert row["payload"] == {"only": True} and "vector" not in row
ask("POST", rows_of, {"rows": [model[7]]})

# Many write at once and share commits: each batch is there, a bad one among them alone is not.
def write_often(number, failed):
    own = Client(base)
    try:
        for i in range(12):
            first = 100_000 + 1000 * number + 2 * i
            version = own.ask("POST", rows_of, {"rows": [{"key": first, "payload": {"by": number}}, {"key": first + 1, "vector": [i] * DIM}]})["version"]
            own.ask("POST", rows_of, {"rows": [{"key": first, "payload": {"by": -1}}, {"key": first, "vector": [1]}]}, status=400)
            assert own.ask("GET", f"{rows_of}/{first}")["payload"] == {"by": number}
            assert own.ask("POST", rows_of + "/delete", {"keys": [first + 1]})["version"] > version
            own.ask("DELETE", f"{rows_of}/{first + 1}", status=404)
    except Exception as fault:
        failed.append(fault)


before, failed = ask("GET", rows_of[:-5] + "/count")["count"], []
writers = [threading.Thread(target=write_often, args=(number, failed)) for number in range(8)]
for thread in writers:
    thread.start()
for thread in writers:
    thread.join()
assert not failed, failed
assert ask("GET", rows_of[:-5] + "/count")["count"] == before + 8 * 12
assert ask("POST", rows_of + "/delete", {"filter": "$key >= 100000 and $key < 200000"})["deleted"] == 8 * 12


def written():
    lines = (line.split() for line in client.fetch("GET", "/metrics")[2].decode().splitlines() if line.startswith("kith_write_"))
    return {name: int(value) for name, value in lines}


def at_once(n, what):
    """Run what(number) in n threads."""
    failed = []

    def one(number):
        try:
            what(number)
        except Exception as fault:
            failed.append(fault)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    return threads, failed


# Those that wait for another process have one commit when it lets them: the first of them, and all the others with it.
other = sqlite3.connect("served/cities.kith", isolation_level=None)
other.execute("BEGIN IMMEDIATE")
before = written()
threads, failed = at_once(8, lambda number: Client(base).ask("POST", rows_of, {"rows": [{"key": 100_000 + number}]}))
time.sleep(0.7)
assert written() == before
other.execute("ROLLBACK")
other.close()
for thread in threads:
    thread.join()
assert not failed, failed
after = written()
batches, commits = (after[f"kith_write_{what}_total"] - before[f"kith_write_{what}_total"] for what in ("batches", "commits"))
assert batches == 8 and 1 <= commits < 8, (batches, commits)

# Who writes alone takes turns with them: nobody is kept out for long.
ending = threading.Event()


def write_on(number):
    own = Client(base)
    while not ending.is_set():
        own.ask("POST", rows_of, {"rows": [{"key": 100_100 + number}]})


threads, failed = at_once(6, write_on)
for i in range(5):
    began = time.monotonic()
    ask("PUT", f"/v1/collections/cities/partitions/turn{i}", status=204)
    ask("DELETE", f"/v1/collections/cities/partitions/turn{i}", status=204)
    ask("POST", rows_of[:-5] + "/import", b'{"key":100200}\n' * 3, kind="application/x-ndjson")
    assert time.monotonic() - began < 4, (i, time.monotonic() - began)
ending.set()
for thread in threads:
    thread.join()
assert not failed, failed
refused = ask("POST", rows_of, {"rows": [{"key": 100_200}], "mode": "insert"}, status=409)["detail"]
assert "100200" in refused and "/" not in refused and "served" not in refused, refused
assert ask("POST", rows_of + "/delete", {"filter": "$key >= 100000 and $key < 200000"})["deleted"] == 8 + 6 + 1

# All or nothing; what is wrong is named.
for bad in ({"vector": vector()[:-1]}, {"vector": ["a"] * DIM}, {"vector": 7}, {"key": 0}, {"key": 1.5}, {"key": "x"}, {"key": 1, "text": "a"},
            {"payload": []}, {"unknown": 1}, {"expires": -1}, {"partition": 5}, {"vectors": {"nowhere": [1]}}, {"text": ""}, 5, None):
    got = ask("POST", rows_of, {"rows": [{"key": 900, "payload": {}}, bad]}, status=404 if isinstance(bad, dict) and "vectors" in bad else 400)
    assert got["detail"].startswith("row 1:"), got
ask("GET", rows_of + "/900", status=404)
for body in ({}, {"rows": []}, {"rows": {}}, {"rows": [{}], "mode": "replace"}, {"rows": [{}] * 10001}):
    ask("POST", rows_of, body, status=400)

# ---- reading ----
assert [row and row["key"] for row in ask("POST", rows_of + "/get", {"keys": [3, 999999, "paris", 1]})["rows"]] == [3, None, paris, 1]
seen, after = [], 0
while after is not None:
    page = ask("GET", f"{rows_of}?limit=37&after={after}")
    seen += [row["key"] for row in page["rows"]]
    after = page["next"]
assert seen == sorted([*range(1, 201), paris])
page = ask("GET", f"{rows_of}?limit=1000&filter=" + urllib.parse.quote('kind == "a" and n <= 100'))
assert [row["key"] for row in page["rows"]] == list(range(2, 101, 2)) and page["next"] is None
assert ask("GET", "/v1/collections/cities/count?filter=" + urllib.parse.quote("n > 150 and n < 500"))["count"] == 50
ask("GET", "/v1/collections/cities/count?filter=" + urllib.parse.quote("n >"), status=400)

# ---- searching ----
search = "/v1/collections/cities/search"
wanted = vector()
order = sorted(model, key=lambda k: distance(model[k]["vector"], wanted))
paris_row = ask("GET", rows_of + "/=paris?vector=1")


def exact(k, keep=lambda row: True):
    pool = {**model, paris: paris_row}
    return sorted((n for n in pool if keep(pool[n])), key=lambda n: distance(pool[n]["vector"], wanted))[:k]


got = ask("POST", search, {"vector": wanted, "k": 10})
assert [r["key"] for r in got["results"]] == exact(10) and got["complete"] and got["exact"]
for r in got["results"]:
    assert math.isclose(r["distance"], distance((paris_row if r["key"] == paris else model[r["key"]])["vector"], wanted), rel_tol=1e-5)
again = ask("POST", search, json.dumps({"vector": wanted, "k": 10}).encode() + b" " * (200 << 10))  # by a worker, for its length
assert again["results"] == got["results"]
got = ask("POST", search + "?payload=0", {"vector": wanted, "k": 5, "offset": 5})
assert [r["key"] for r in got["results"]] == exact(10)[5:] and [r["rank"] for r in got["results"]] == [6, 7, 8, 9, 10]
assert all("payload" not in r for r in got["results"])
got = ask("POST", search + "?vector=1&explain=1", {"vector": wanted, "k": 4, "filter": 'kind == "b"'})
assert [r["key"] for r in got["results"]] == exact(4, lambda row: row["payload"].get("kind") == "b")
assert got["plan"]["matches"] == 100 and all(r["payload"]["kind"] == "b" and len(r["vector"]) == DIM for r in got["results"])
got = ask("POST", search, {"like": [5, "paris"], "unlike": [9], "k": 200})
assert not {5, paris, 9} & {r["key"] for r in got["results"]} and len(got["results"]) == 198
reach = distance(model[exact(8)[-1]]["vector"] if exact(8)[-1] != paris else paris_row["vector"], wanted) * 1.0001
got = ask("POST", search, {"vector": wanted, "radius": reach, "k": 100})
assert {r["key"] for r in got["results"]} == set(exact(8)) and got["more"] is False
assert ask("POST", search, {"vector": wanted, "radius": reach, "k": 3})["more"] is True
got = ask("POST", search, {"vector": wanted, "group_by": "kind", "group_size": 3, "k": 2})
assert sorted(r["group"] for r in got["results"]) == [1, 1, 1, 2, 2, 2]
score = ask("POST", search, {"vector": wanted, "k": 5})["results"][2]["score"]
assert len(ask("POST", f"{search}?min_score={score}", {"vector": wanted, "k": 50})["results"]) == 3
ask("POST", search, {"vector": wanted, "k": 5, "target_recall": 0.9, "seconds": 5, "exact": True})
raw = ask("POST", search + "?k=10", floats([wanted]), kind="application/x-float32")
assert [struct.unpack_from("<qf", raw, 12 * i)[0] for i in range(10)] == exact(10) and len(raw) == 120
ask("POST", search + "?payload=2", {"vector": wanted}, status=400)
for body in ({}, {"vector": []}, {"vector": [1, 2]}, {"vector": wanted, "like": [1]}, {"like": []}, {"like": [0]}, {"like": [True]}, {"unlike": [1]},
             {"vector": wanted, "k": 0}, {"vector": wanted, "k": 2**31}, {"vector": wanted, "k": 2**63}, {"vector": wanted, "k": -1},
             {"vector": wanted, "k": "1"}, {"vector": wanted, "k": 9999, "offset": 9999}, {"vector": wanted, "offset": -1},
             {"vector": wanted, "filter": "n >"}, {"vector": wanted, "filter": 5}, {"vector": wanted, "exact": 1}, {"vector": wanted, "radius": "1"},
             {"vector": wanted, "group_by": "kind", "group_size": 5000, "k": 5000}, {"like": [1], "group_by": "kind"}, {"vector": wanted, "partitions": 5},
             {"vector": wanted, "nothing": 1}, {"vector": wanted, "seconds": -1}, {"vector": wanted, "seconds": 10**9},
             {"vector": wanted, "target_recall": 2}, {"vector": wanted, "payload": "n"}, {"vector": [1e39] * DIM},
             {"vectors": []}, {"vectors": [{}]}, {"vectors": [{"vector": wanted}] * 65}, {"vectors": [{"vector": wanted}] * 2, "fusion": "sum"}):
    ask("POST", search, body, status=400)
ask("POST", search, b'{"vector":[' + b",".join([b"1e999"] * DIM) + b"]}", status=400)
ask("POST", search, {"like": [123456]}, status=404)
ask("POST", search + "?k=3", b"123", status=400, kind="application/x-float32")
ask("POST", search, struct.pack(f"<{DIM}f", *([math.nan] * DIM)), status=400, kind="application/x-float32")

# ---- partitions, fields, several vectors ----
parts = "/v1/collections/cities/partitions"
ask("PUT", parts + "/north", status=204)
ask("PUT", parts + "/north", status=409)
ask("POST", rows_of, {"rows": [{"key": k, "partition": "north"} for k in range(1, 21)], "mode": "update"})
assert ask("GET", parts)["partitions"] == [{"name": "north", "rows": 20}]
got = ask("POST", search, {"vector": wanted, "k": 50, "partitions": ["north"]})
assert {r["key"] for r in got["results"]} == set(range(1, 21))
ask("POST", search, {"vector": wanted, "partitions": ["south"]}, status=404)
ask("DELETE", parts + "/north", status=204)
ask("DELETE", parts + "/north", status=404)
for gone in range(1, 21):
    del model[gone]
assert ask("GET", "/v1/collections/cities/count")["count"] == 181
ask("PUT", "/v1/collections/cities/fields/n", {"kind": "int"}, status=204)
ask("PUT", "/v1/collections/cities/fields/name", {"kind": "colour"}, status=400)
ask("POST", rows_of, {"rows": [{"key": 30, "payload": {"n": "text"}}]}, status=400)
ask("PUT", "/v1/collections/cities/vectors/title", {"dim": 4, "metric": "cosine"}, status=204)
ask("POST", rows_of, {"rows": [{"key": k, "vectors": {"title": [1, k / 100, 0, 0]}} for k in range(21, 41)], "mode": "update"})
fields = ask("GET", "/v1/collections/cities/fields")
assert fields["fields"] == [{"name": "n", "kind": "int"}] and fields["vectors"][0]["vectors"] == 20
got = ask("POST", search, {"vector": [1, 0.21, 0, 0], "field": "title", "k": 3})
assert [r["key"] for r in got["results"]] == [21, 22, 23]
for fuse in ("ranks", "weights"):
    got = ask("POST", search, {"vectors": [{"vector": wanted}, {"vector": [1, 0.3, 0, 0], "field": "title", "weight": 2}], "fusion": fuse, "k": 5})
    scores = [r["score"] for r in got["results"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
row = ask("GET", rows_of + "/25?vector=1")
assert row["vectors"]["title"][1] == 0.25
ask("DELETE", "/v1/collections/cities/vectors/title", status=204)
ask("DELETE", "/v1/collections/cities/fields/n", status=204)
soon = int(time.time()) + 100000
ask("POST", rows_of, {"rows": [{"key": 30, "expires": soon}], "mode": "update"})
assert ask("GET", rows_of + "/30?vector=1")["expires"] == soon
ask("POST", rows_of, {"rows": [{"key": 31, "expires": 1}], "mode": "update"})
ask("GET", rows_of + "/31", status=404)

# ---- deleting ----
assert ask("POST", rows_of + "/delete", {"keys": [40, 41, 424242, "paris"]})["deleted"] == 3
assert ask("POST", rows_of + "/delete", {"filter": "n > 190"})["deleted"] == 10
for body in ({}, {"keys": []}, {"keys": [1.5]}, {"filter": "n >"}, {"keys": [1], "filter": "n > 1"}):
    ask("POST", rows_of + "/delete", body, status=400)

# ---- imports ----
ask("PUT", "/v1/collections/many", {"dim": DIM, "metric": "cosine"}, status=201)
bulk = "/v1/collections/many/import"
vectors = [vector() for _ in range(3000)]


def chunks(data, size):
    for i in range(0, len(data), size):
        yield data[i:i + size]


got = ask("POST", bulk + "?first_key=1001", chunks(floats(vectors), 10007), kind="application/x-float32")
assert got["rows"] == 3000
job = ask("GET", "/v1/jobs/" + got["job"])
assert job["kind"] == "import" and job["state"] == "done" and job["result"] == {"rows": 3000}
lines = "".join(json.dumps({"key": i, "vector": vectors[i], "payload": {"i": i}}) + "\n" for i in range(1, 500))
assert ask("POST", bulk, chunks(lines[:-1].encode(), 4099), kind="application/x-ndjson")["rows"] == 499
assert ask("GET", "/v1/collections/many/count")["count"] == 3499
assert ask("POST", bulk, b"", kind="application/x-ndjson")["rows"] == 0
for wrong, row in ((lines + "{\n", 499), ('{"key":1}\n\n', 1), ('{"key":1,"vector":[1]}', 0), ("[1]\n", 0), ('{"key":0}\n', 0)):
    got = ask("POST", bulk, wrong.encode(), kind="application/x-ndjson", status=400)
    assert got["detail"].startswith(f"row {row}:"), got
# A line is bounded before it is parsed, so neither time nor memory is much; one with as large a payload as may be is not refused.
def anonymous():
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) >> 10


before, began = anonymous(), time.monotonic()
for long, why in ((b'{"payload":{"a":[' + b"{}," * 2_600_000 + b"{}]}}", "longer than"), (b'{"payload":{"a":[' + b"{}," * 600_000 + b"{}]}}\n", "parts"),
                  (b'{"key":1,"payload":{"a":' + b"[" * 70 + b"]" * 70 + b"}}\n", "deeper")):
    got = ask("POST", bulk, chunks(b'{"key":5001}\n' + long, 1 << 20), kind="application/x-ndjson", status=400)["detail"]
    assert got.startswith("row 1:") and why in got, got
assert time.monotonic() - began < 5 and anonymous() < before + 64, f"{time.monotonic() - began:.1f} s, {before} MB and then {anonymous()} MB"
line = json.dumps({"key": 5001, "payload": {"words": "\u00e4" * 520_000}}).encode() + b"\n"
assert ask("POST", bulk, line + b"{}\n", kind="application/x-ndjson")["rows"] == 2
assert ask("POST", "/v1/collections/many/rows/delete", {"keys": [5001, 5002]})["deleted"] == 2

# What comes behind a row that is refused is read for a while, so that the answer is seen, not for ever. The job has it, too.
sent = 0


def rest():
    global sent
    yield b"no JSON\n"
    for _ in range(1000):
        sent += 1
        yield b"x" * (1 << 20)


try:
    sender = http.client.HTTPConnection(client.host, timeout=20)
    sender.request("POST", bulk, body=rest(), headers={"Content-Type": "application/x-ndjson"})
    raise AssertionError("all of it was taken")
except OSError:
    assert 50 < sent < 150, f"{sent} MB were read"  # --max-body 64, and what lies in the buffers
assert ask("GET", "/v1/jobs")["jobs"][0]["error"].startswith("row 0:"), ask("GET", "/v1/jobs")["jobs"][0]
assert "cut short" in ask("POST", bulk, floats(vectors[:1]) + b"xy", kind="application/x-float32", status=400)["detail"]
ask("POST", bulk + "?mode=insert", b'{"key":1}', kind="application/x-ndjson", status=409)
ask("POST", bulk, b"x", kind="text/plain", status=415)
ask("POST", bulk + "?mode=other", b"x", kind="application/x-ndjson", status=400)
ask("POST", "/v1/collections/nobody/import", b"x", kind="application/x-ndjson", status=404)
got = ask("POST", "/v1/collections/many/search", {"vector": vectors[77], "k": 2})
assert {r["key"] for r in got["results"]} == {77, 1078}, got

# A map shows what two coordinates can: rows on a line lie on one, and the sample is of even steps.
flat = ask("GET", "/v1/collections/many/map?limit=500")
assert 300 <= len(flat["points"]) <= 500 and 0.1 < flat["variance"] < 0.5
ask("GET", "/v1/collections/cities/duplicates", status=415)

# ---- jobs ----
jobs = "/v1/collections/many/jobs"
done = wait(ask("POST", jobs, {"kind": "index", "spec": "IVF16,SQ8,RFlat", "always": True}, status=202))
assert done["result"]["rows"] == 3500 and done["result"]["spec"].startswith("IVF16"), done
stats = ask("GET", "/v1/collections/many/stats")
assert stats["index"]["rows"] == 3500 and stats["index"]["cells"] == 16 and stats["recall"] == []
assert wait(ask("POST", jobs, {"kind": "recall", "queries": 20}, status=202))["result"]["recall"] > 0.5
assert ask("GET", "/v1/collections/many/stats")["recall"][0]["queries"] == 20
assert wait(ask("POST", jobs, {"kind": "tune", "target_recall": 0.9, "queries": 20}, status=202))["result"]["recall"] > 0.5
assert ask("GET", "/v1/collections/many/stats")["tuned"]["target_recall"] == 0.9
hash_before = wait(ask("POST", jobs, {"kind": "verify"}, status=202))["result"]["hash"]
for body in ({}, {"kind": "other"}, {"kind": "index", "spec": 5}, {"kind": "recall", "k": 0}, {"kind": "verify", "path": "/etc/passwd"}):
    ask("POST", jobs, body, status=400)
wait(ask("POST", jobs, {"kind": "index", "spec": "Nothing7", "always": True}, status=202), "failed")
ask("GET", "/v1/jobs/nothing", status=404)
ask("DELETE", "/v1/jobs/nothing", status=404)
assert len(ask("GET", "/v1/jobs")["jobs"]) > 5

# What a job takes for a while it gives back, whichever thread's share of the memory it came from.
ask("PUT", "/v1/collections/wide", {"dim": 1024}, status=201)
ask("POST", "/v1/collections/wide/import", chunks(random.randbytes(4 * 1024 * 1024).translate(bytes(range(64)) * 4), 1 << 20), kind="application/x-float32")


def memory_after(n_jobs):
    for _ in range(n_jobs):
        wait(ask("POST", "/v1/collections/wide/jobs", {"kind": "index", "spec": "SQ8", "always": True}, status=202))
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) >> 10


early, late = memory_after(3), memory_after(12)
print(f"{early} MB after 3 jobs, {late} MB after 15")
if "asan" not in open(f"/proc/{pid}/maps").read():  # it keeps what was freed for a while
    assert late < early + 12, f"{early} MB after 3 jobs, {late} MB after 15"
ask("DELETE", "/v1/collections/wide", status=204)

# ---- snapshots ----
snapshots = "/v1/collections/many/snapshots"
wait(ask("POST", snapshots, {"name": "first"}, status=202))
wait(ask("POST", snapshots, {"name": "first"}, status=202), "failed")
wait(ask("POST", snapshots, status=202))
assert "first" in [s["name"] for s in ask("GET", snapshots)["snapshots"]] and len(ask("GET", snapshots)["snapshots"]) == 2
ask("POST", "/v1/collections/many/rows/delete", {"filter": "$key < 2000"})
ask("PUT", "/v1/collections/many/partitions/p", status=204)
wait(ask("POST", snapshots + "/first/restore", status=202))
assert ask("GET", "/v1/collections/many/count")["count"] == 3500 and ask("GET", "/v1/collections/many/partitions")["partitions"] == []
assert wait(ask("POST", jobs, {"kind": "verify"}, status=202))["result"]["hash"] == hash_before
got = ask("POST", "/v1/collections/many/search", {"vector": vectors[77], "k": 2})
assert {r["key"] for r in got["results"]} == {77, 1078}, got
ask("POST", snapshots + "/other/restore", status=404)
for name in (".x", "%2e%2e", "a b".replace(" ", "%20")):
    ask("POST", snapshots + f"/{name}/restore", status=400)
ask("DELETE", snapshots + "/first", status=204)
ask("DELETE", snapshots + "/first", status=404)

# ---- what a request says and nobody knows is refused: it may be a typo of what matters ----
for method, path, body in (
    ("POST", rows_of, {"rows": [{"key": 7}], "mod": "insert"}),
    ("POST", rows_of + "/get", {"keys": [7], "with_vectr": True}),
    ("POST", rows_of + "/get", {"keys": [7], "with_vector": 1}),
    ("POST", rows_of + "/delete", {"keys": [7], "filtr": "true"}),
    ("PUT", "/v1/collections/typo", {"dim": 2, "metrik": "cosine"}),
    ("PUT", "/v1/collections/cities/fields/typo", {"kind": "int", "indexed": True}),
    ("PUT", "/v1/collections/cities/vectors/typo", {"dim": 2, "metrik": "cosine"}),
    ("PUT", "/v1/collections/cities/vectors/typo", {"dim": 2, "spec": 7}),
    ("POST", "/v1/collections/cities/snapshots", {"nam": "first"}),
    ("POST", jobs, {"kind": "verify", "quick": True}),
):
    ask(method, path, body, status=400)
assert ask("POST", rows_of, {"rows": [{"key": 7}], "mod": "insert"}, status=400)["detail"] == "mod is no member of such a request, which has: rows, mode"
ask("GET", "/v1/collections/typo", status=404)

# ---- snapshots go where their collection goes, and end with it ----
ask("PUT", "/v1/collections/here", {"dim": 2}, status=201)
wait(ask("POST", "/v1/collections/here/snapshots", {"name": "kept"}, status=202))
ask("PATCH", "/v1/collections/here", {"name": "there"}, status=204)
assert [s["name"] for s in ask("GET", "/v1/collections/there/snapshots")["snapshots"]] == ["kept"]
ask("PUT", "/v1/collections/here", {"dim": 2}, status=201)
assert ask("GET", "/v1/collections/here/snapshots")["snapshots"] == []
wait(ask("POST", "/v1/collections/there/snapshots/kept/restore", status=202))
ask("DELETE", "/v1/collections/there", status=204)
ask("PATCH", "/v1/collections/here", {"name": "there"}, status=204)
assert ask("GET", "/v1/collections/there/snapshots")["snapshots"] == []
ask("DELETE", "/v1/collections/there", status=204)

# ---- names ----
ask("PATCH", "/v1/collections/many", {"name": "cities"}, status=409)
ask("PATCH", "/v1/collections/many", {"name": "../x"}, status=400)
ask("PATCH", "/v1/collections/many", {"other": "x"}, status=400)
ask("PATCH", f"/v1/collections/{album}", {"name": "cities"}, status=409)
ask("PATCH", "/v1/collections/many", {"name": "more"}, status=204)
ask("GET", "/v1/collections/many", status=404)
assert ask("GET", "/v1/collections/more/count")["count"] == 3500
assert ask("GET", "/v1/collections/more/stats")["index"]["rows"] == 3500  # it took its segment along
ask("DELETE", "/v1/collections/more", status=204)
ask("DELETE", "/v1/collections/more", status=404)
ask("PUT", "/v1/collections/more", {"dim": 3}, status=201)
assert ask("GET", "/v1/collections/more/count")["count"] == 0
ask("DELETE", "/v1/collections/more", status=204)
assert sorted(c["name"] for c in ask("GET", "/v1/collections")["collections"]) == sorted([album, "cities"])

# A collection of pictures keeps its pictures, thumbnails and decoders under another name, while others ask for it, too.
def look(name, status=200):
    got = ask("POST", f"/v1/collections/{name}/search/picture?k=3", data, kind="application/octet-stream", status=status)
    ask("GET", f"/v1/collections/{name}/rows/{key}/thumbnail", status=status)
    assert ask("GET", f"/v1/collections/{name}/rows/{key}/picture", status=status) == data or status == 404
    ask("GET", f"/v1/collections/{name}/bad", status=status)
    return [hit["distance"] for hit in got["results"]] if status == 200 else None


def look_often(failed):
    try:
        own = Client(base)
        while not done_looking.is_set():
            for name in (album, "holidays"):
                status, _, answer = own.fetch("POST", f"/v1/collections/{name}/search/picture?k=3", data)
                assert status == 404 or (status == 200 and [hit["distance"] for hit in json.loads(answer)["results"]] == expected), (status, answer[:300])
                answered[name] += status == 200
    except Exception as fault:
        failed.append(fault)


expected, answered, failed, done_looking = look(album), {album: 0, "holidays": 0}, [], threading.Event()
lookers = [threading.Thread(target=look_often, args=(failed,)) for _ in range(6)]
for looker in lookers:
    looker.start()
for _ in range(4):
    ask("PATCH", f"/v1/collections/{album}", {"name": "holidays"}, status=204)
    assert look("holidays") == expected
    look(album, 404)
    ask("PATCH", "/v1/collections/holidays", {"name": album}, status=204)
    assert look(album) == expected
done_looking.set()
for looker in lookers:
    looker.join()
assert not failed and min(answered.values()) > 0, (failed, answered)
ask("POST", f"/v1/collections/{album}/rows", {"rows": [{"key": key, "payload": {"seen": 1}}], "mode": "update"})
assert ask("GET", f"/v1/collections/{album}/rows/{key}")["payload"]["seen"] == 1

# A long import is seen while it runs, is cancelled, and leaves whole batches.
ask("PUT", "/v1/collections/long", {"dim": 1}, status=201)
other = Client(base)


def endless():
    for turn in range(2000):
        yield b'{"vector":[1]}\n' * 100
        jobs = [j for j in other.ask("GET", "/v1/jobs")["jobs"] if j["state"] == "running"]
        while turn == 0 and not jobs:  # the head may not have been read yet
            jobs = [j for j in other.ask("GET", "/v1/jobs")["jobs"] if j["state"] == "running"]
        if turn == 0:
            other.ask("DELETE", "/v1/collections/long", status=503)
            other.ask("DELETE", "/v1/jobs/" + jobs[0]["id"], status=204)
        elif not jobs:
            return
        time.sleep(0.05)


ask("POST", "/v1/collections/long/import", endless(), kind="application/x-ndjson", status=503)
assert ask("GET", "/v1/collections/long/count")["count"] % 100 == 0
ask("DELETE", "/v1/collections/long", status=204)
client.asked |= other.asked
assert not client.missed(), f"nobody asked for {client.missed()}"
print(f"{len(client.asked)} kinds of answers are as the document says")
