"""milvus_core.py BASE FOLDER - the Milvus adapter without its client: core routes, exact answers, hostile bodies.

FOLDER is the one that BASE serves: files to import are written into it."""
import json
import math
import os
import random
import sys
import threading
import urllib.error
import urllib.request

base, folder = sys.argv[1:]


def ask(path, body, headers=None):
    """The HTTP status and the answer; body is an object or bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/v2/vectordb/{path}", data=data, method="POST")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def call(path, body=None, headers=None):
    status, answer = ask(path, body or {}, headers)
    assert status == 200 and answer["code"] == 0, f"{path}: {status} {answer}"
    return answer


def data(path, body=None, headers=None):
    return call(path, body, headers)["data"]


def fails(code, path, body, status=200):
    got, answer = ask(path, body)
    assert got == status and answer["code"] == code and answer["message"], f"{path}: {got} {answer} instead of {code}"


NUMBERS = {"Accept-Type-Allow-Int64": "true"}
draw = random.Random(7)
DIM, N = 8, 300


def vector(dim=DIM):
    return [round(draw.gauss(0, 1), 4) for _ in range(dim)]


def l2(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


def ip(a, b):
    return sum(x * y for x, y in zip(a, b))


def cosine(a, b):
    return ip(a, b) / math.sqrt(ip(a, a) * ip(b, b))


def near(a, b):
    return abs(a - b) <= 1e-4 * max(1, abs(b))


def check(rows, wanted):
    """rows of an answer are the ids and distances wanted, in this order."""
    assert [int(r["id"]) for r in rows] == [i for i, _ in wanted], ([r["id"] for r in rows], wanted)
    for row, (_, distance) in zip(rows, wanted):
        assert near(row["distance"], distance), (row, distance)


# ---- quick create, each metric: distances are exact, ids of all signs ----
rows = [{"id": i - 3, "vector": vector(), "color": ["red", "green", "blue"][i % 3], "year": 1990 + i % 20,
         "tags": ["a", i % 4], "big": 2**60 + i, "exact": 0.1 + i / 3} for i in range(N)]
for metric, measure, sign in [("L2", l2, 1), ("IP", ip, -1), ("COSINE", cosine, -1)]:
    name = f"quick_{metric}"
    data("collections/create", {"collectionName": name, "dimension": DIM, "metricType": metric})
    answer = data("entities/insert", {"collectionName": name, "data": rows})
    assert answer["insertCount"] == N and answer["insertIds"] == [str(r["id"]) for r in rows], answer
    query = vector()
    truth = sorted(((r["id"], measure(query, r["vector"])) for r in rows), key=lambda t: sign * t[1])
    answer = call("entities/search", {"collectionName": name, "data": [query], "limit": 10})
    assert answer["topks"] == [10], answer
    check(answer["data"], truth[:10])
    assert set(answer["data"][0]) == {"id", "distance"}, answer["data"][0]
    check(data("entities/search", {"collectionName": name, "data": [query], "limit": 5, "offset": 7}), truth[7:12])
    # A range holds exactly the rows between its ends.
    radius, inner = truth[40][1], truth[10][1]
    inside = [t for t in truth if (inner <= t[1] < radius if sign == 1 else radius < t[1] <= inner)]
    assert len(inside) == 30
    found = data("entities/search", {"collectionName": name, "data": [query], "limit": 100,
                                     "searchParams": {"params": {"radius": radius, "range_filter": inner}}})
    assert abs(len(found) - 30) <= 1, len(found)  # the ends are float32 inside
    check([r for r in found if int(r["id"]) in [i for i, _ in inside[1:-1]]], inside[1:-1])
    # Filters.
    some = [t for t in truth if rows[t[0] + 3]["color"] == "red" and rows[t[0] + 3]["year"] > 2000]
    found = data("entities/search", {"collectionName": name, "data": [query], "limit": 10, "outputFields": ["year", "color"],
                                     "filter": "color == {c} && year > {y}", "exprParams": {"c": "red", "y": 2000}})
    check(found, some[:10])
    assert all(r["color"] == "red" and r["year"] > 2000 and "vector" not in r for r in found)
    # Groups: the nearest rows of each colour.
    found = data("entities/search", {"collectionName": name, "data": [query], "limit": 3, "groupingField": "color",
                                     "groupSize": 2, "outputFields": ["color"]})
    for color in ("red", "green", "blue"):
        best = [t for t in truth if rows[t[0] + 3]["color"] == color][:2]
        check([r for r in found if r["color"] == color], best)
    # Several queries: as many answers.
    many = call("entities/search", {"collectionName": name, "data": [query, rows[5]["vector"]], "limit": 4})
    assert many["topks"] == [4, 4] and len(many["data"]) == 8
    check(many["data"][:4], truth[:4])
    fails(1100, "entities/search", {"collectionName": name, "data": [query],
                                    "searchParams": {"metricType": "L2" if metric != "L2" else "IP"}})

# ---- many make the same collection at once, and use it as soon as they are answered; one who did not wait finds all of it, or nothing ----
def at_once(works):
    failed = []

    def guarded(work):
        try:
            work()
        except Exception as fault:
            failed.append(fault)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


SCHEMA = {"fields": [{"fieldName": "name", "dataType": "VarChar", "isPrimary": True, "elementTypeParams": {"max_length": 40}},
                     {"fieldName": "at", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
                     {"fieldName": "beside", "dataType": "FloatVector", "elementTypeParams": {"dim": 3}},
                     {"fieldName": "year", "dataType": "Int64"}]}
for turn in range(8):
    name = f"raced{turn}"

    def make(i):
        data("collections/create", {"collectionName": name, "schema": SCHEMA})
        data("entities/insert", {"collectionName": name,
                                 "data": [{"name": f"n{i}", "at": [i, 1], "beside": [0, i, 1], "year": 1990 + i}]})

    def look():
        for _ in range(20):
            status, answer = ask("collections/describe", {"collectionName": name})
            assert status == 200 and (answer["code"] == 100 or [f["name"] for f in answer["data"]["fields"]] == ["name", "at", "beside", "year"]), answer

    at_once([look] + [lambda i=i: make(i) for i in range(4)] + [look])
    assert data("collections/get_stats", {"collectionName": name})["rowCount"] == 4

    def replace():  # gone, and there again
        data("collections/drop", {"collectionName": name})
        data("collections/create", {"collectionName": name, "schema": SCHEMA})

    at_once([replace] * 3 if turn == 0 else [])
    data("collections/drop", {"collectionName": name})

# ---- numbers come back as they were ----
name = "quick_L2"
row = data("entities/get", {"collectionName": name, "id": 2})[0]
assert row["id"] == "2" and row["exact"] == rows[5]["exact"] and row["big"] == rows[5]["big"], row
assert all(near(a, b) for a, b in zip(row["vector"], rows[5]["vector"]))
assert data("entities/get", {"collectionName": name, "id": ["-3", 0, 10**15]}, NUMBERS) == [
    {**rows[0], "vector": data("entities/get", {"collectionName": name, "id": -3})[0]["vector"]},
    {**rows[3], "vector": data("entities/get", {"collectionName": name, "id": "0"})[0]["vector"]}]
assert data("entities/query", {"collectionName": name, "outputFields": ["count(*)"]}) == [{"count(*)": str(N)}]
assert data("entities/query", {"collectionName": name, "filter": "id < 0", "outputFields": ["count(*)"]}, NUMBERS) == [{"count(*)": 3}]
page = data("entities/query", {"collectionName": name, "filter": "year == 1995", "outputFields": ["year"], "limit": 4, "offset": 2})
assert [int(r["id"]) for r in page] == [r["id"] for r in rows if r["year"] == 1995][2:6], page
assert len(data("entities/query", {"collectionName": name, "filter": "array_contains(tags, 2) and $meta[\"color\"] == 'blue'"})) == len(
    [r for r in rows if 2 in r["tags"] and r["color"] == "blue"])

# ---- upsert, delete ----
assert data("entities/upsert", {"collectionName": name, "data": [{"id": 5, "vector": [9] * DIM, "color": "black"}]})["upsertIds"] == ["5"]
assert data("entities/get", {"collectionName": name, "id": 5, "outputFields": ["color"]}) == [{"id": "5", "color": "black"}]
assert data("collections/get_stats", {"collectionName": name})["rowCount"] == N
data("entities/delete", {"collectionName": name, "filter": "id in [5, 6]"})
assert data("entities/get", {"collectionName": name, "id": [5, 6]}) == []
assert data("collections/get_stats", {"collectionName": name})["rowCount"] == N - 2

# ---- a schema: types are checked, all rows of a request or none ----
schema = {"autoID": False, "enableDynamicField": False, "fields": [
    {"fieldName": "pk", "dataType": "VarChar", "isPrimary": True, "elementTypeParams": {"max_length": 20}},
    {"fieldName": "title_vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}},
    {"fieldName": "text_vector", "dataType": "FloatVector", "elementTypeParams": {"dim": "6"}},
    {"fieldName": "n", "dataType": "Int8"},
    {"fieldName": "note", "dataType": "VarChar", "nullable": True, "elementTypeParams": {"max_length": 5}},
    {"fieldName": "kind", "dataType": "Int64", "defaultValue": 7},
    {"fieldName": "scores", "dataType": "Array", "elementDataType": "Int32", "nullable": True, "elementTypeParams": {"max_capacity": 3}},
    {"fieldName": "f", "dataType": "Float", "defaultValue": 0.5}, {"fieldName": "ok", "dataType": "Bool", "nullable": True},
    {"fieldName": "extra", "dataType": "JSON", "nullable": True}]}
data("collections/create", {"collectionName": "typed", "schema": schema, "indexParams": [
    {"fieldName": "title_vector", "metricType": "L2", "indexName": "t", "params": {"index_type": "HNSW", "M": 16}},
    {"fieldName": "text_vector", "metricType": "COSINE", "indexName": "x"}]})
data("collections/create", {"collectionName": "typed", "schema": schema})  # the same again
fails(65535, "collections/create", {"collectionName": "typed", "dimension": 4})
told = data("collections/describe", {"collectionName": "typed"})
assert [f["name"] for f in told["fields"]] == [f["fieldName"] for f in schema["fields"]] and told["load"] == "LoadStateLoaded", told
assert {i["indexName"]: i["metricType"] for i in told["indexes"]} == {"t": "L2", "x": "COSINE"}, told
assert {"key": "dim", "value": "6"} in told["fields"][2]["params"] and not told["enableDynamicField"]
docs = [{"pk": f"d{i}", "title_vector": vector(4), "text_vector": vector(6), "n": i} for i in range(60)]
data("entities/insert", {"collectionName": "typed", "data": docs})
good = {"pk": "x", "title_vector": [1, 2, 3, 4], "text_vector": [1] * 6, "n": 1}
for change in [{"n": 128}, {"f": "a"}, {"f": 1e39}, {"ok": 1}, {"n": "a"}, {"n": None}, {"pk": 5}, {"pk": "p" * 21}, {"note": "longer than 5"}, {"scores": [1, 2, 3, 4]},
               {"scores": ["a"]}, {"title_vector": [1, 2, 3]}, {"title_vector": [1, 2, 3, "4"]}, {"text_vector": None},
               {"other": 1}, {"kind": 2**70}]:
    fails(1801 if change.get("kind") else 1804, "entities/insert", {"collectionName": "typed", "data": [good, {**good, **change}]})
assert data("entities/get", {"collectionName": "typed", "id": "x"}) == []
data("entities/upsert", {"collectionName": "typed", "data": [{**docs[7], "f": 2, "ok": True, "extra": {"a": [1, {"b": None}]}, "scores": [1, 2]}]})
row = data("entities/query", {"collectionName": "typed", "filter": "f > 1 and ok and extra[\"a\"][0] == 1 and array_contains(scores, 2)",
                              "outputFields": ["f", "extra", "scores"]})
assert row == [{"pk": "d7", "f": 2, "extra": {"a": [1, {"b": None}]}, "scores": [1, 2]}], row
row = data("entities/get", {"collectionName": "typed", "id": ["d3"], "outputFields": ["n", "note", "kind", "scores", "extra"]})
assert row == [{"pk": "d3", "n": 3, "note": None, "kind": "7", "scores": None, "extra": None}], row

# ---- hybrid search: reciprocal ranks, weights ----
a, b = vector(4), vector(6)
first = sorted(((d["pk"], l2(a, d["title_vector"])) for d in docs), key=lambda t: t[1])[:10]
second = sorted(((d["pk"], cosine(b, d["text_vector"])) for d in docs if d["n"] < 40), key=lambda t: -t[1])[:10]
searches = [{"data": [a], "annsField": "title_vector", "limit": 10},
            {"data": [b], "annsField": "text_vector", "limit": 10, "filter": "n < 40", "metricType": "COSINE"}]
for strategy, params, value in [
        ("rrf", {"k": 10}, lambda i, r, d: 1 / (10 + r + 1)),
        ("weighted", {"weights": [0.7, 0.4]}, lambda i, r, d: 0.7 * (1 - 2 * math.atan(d) / math.pi) if i == 0 else 0.4 * (1 + d) / 2)]:
    scores = {}
    for i, found in enumerate((first, second)):
        for r, (pk, distance) in enumerate(found):
            scores[pk] = scores.get(pk, 0) + value(i, r, distance)
    wanted = sorted(scores.items(), key=lambda t: -t[1])[:6]
    found = data("entities/hybrid_search", {"collectionName": "typed", "search": searches, "limit": 6,
                                            "rerank": {"strategy": strategy, "params": params}, "outputFields": ["n"]})
    assert [near(r["distance"], s) for r, (_, s) in zip(found, wanted)] == [True] * 6, (strategy, found, wanted)
    assert all(near(scores[r["pk"]], r["distance"]) and r["n"] == int(r["pk"][1:]) for r in found), found

# ---- partitions, aliases, databases, an index of another metric ----
data("partitions/create", {"collectionName": "typed", "partitionName": "new"})
data("entities/insert", {"collectionName": "typed", "partitionName": "new", "data": [{**good, "pk": "p1"}, {**good, "pk": "p2"}]})
assert data("partitions/get_stats", {"collectionName": "typed", "partitionName": "new"})["rowCount"] == 2
assert data("partitions/get_stats", {"collectionName": "typed", "partitionName": "_default"})["rowCount"] == 60
assert {r["pk"] for r in data("entities/query", {"collectionName": "typed", "partitionNames": ["new"]})} == {"p1", "p2"}
found = data("entities/search", {"collectionName": "typed", "annsField": "title_vector", "data": [[1, 2, 3, 4]], "limit": 5,
                                 "partitionNames": ["_default"]})
assert not {"p1", "p2"} & {r["pk"] for r in found}
fails(200, "entities/query", {"collectionName": "typed", "partitionNames": ["none"]})
for out in ("n >= 0) or (n >= 0", "n >= 0) or not (n < 0", "1 == 1) or ((n >= 0)", "{a} == 1) or (n >= 0"):  # a filter stays in its partition
    where = {"collectionName": "typed", "filter": out, "exprParams": {"a": 1}, "partitionName": "new"}
    for path, more in (("entities/query", {}), ("entities/delete", {}), ("entities/search", {"annsField": "title_vector", "data": [[1, 2, 3, 4]]})):
        fails(1100, path, {**where, **more})
for blank in (" ", "\t\n"):
    fails(1100, "entities/delete", {"collectionName": "typed", "filter": blank, "partitionName": "new"})
assert data("collections/get_stats", {"collectionName": "typed"})["rowCount"] == 62
data("entities/delete", {"collectionName": "typed", "filter": "n > 100 or n < 0", "partitionName": "new"})
assert {r["pk"] for r in data("entities/query", {"collectionName": "typed", "filter": "n == 1 or n == 2", "partitionName": "new"})} == {"p1", "p2"}
data("indexes/create", {"collectionName": "typed", "indexParams": [{"fieldName": "title_vector", "indexName": "t2", "metricType": "IP"}]})
data("indexes/create", {"collectionName": "typed", "indexParams": [{"fieldName": "text_vector", "indexName": "x2", "metricType": "L2"}]})
found = data("entities/search", {"collectionName": "typed", "annsField": "title_vector", "data": [a], "limit": 1, "filter": "n < 60 and pk like 'd%'"})[0]
best = max(docs, key=lambda d: ip(a, d["title_vector"]))
assert found["pk"] == best["pk"] and near(found["distance"], ip(a, best["title_vector"])), (found, best)
found = data("entities/search", {"collectionName": "typed", "annsField": "text_vector", "data": [b], "limit": 1, "partitionNames": ["_default"]})[0]
best = min(docs, key=lambda d: l2(b, d["text_vector"]))
assert found["pk"] == best["pk"] and near(found["distance"], l2(b, best["text_vector"])), (found, best)
data("aliases/create", {"collectionName": "typed", "aliasName": "now"})
assert data("collections/describe", {"collectionName": "now"})["aliases"] == ["now"]
assert len(data("entities/get", {"collectionName": "now", "id": "d1"})) == 1
data("collections/rename", {"collectionName": "typed", "newCollectionName": "renamed"})
assert data("aliases/describe", {"aliasName": "now"})["collectionName"] == "renamed"
fails(100, "collections/describe", {"collectionName": "typed"})
data("collections/rename", {"collectionName": "renamed", "newCollectionName": "typed"})
data("databases/create", {"dbName": "sales"})
data("collections/create", {"dbName": "sales", "collectionName": "typed", "dimension": 3})
assert data("collections/list", {"dbName": "sales"}) == ["typed"] and "sales.typed" not in data("collections/list")
assert data("collections/describe", {"dbName": "sales", "collectionName": "typed"})["fields"][1]["params"] == [{"key": "dim", "value": "3"}]
fails(65535, "databases/drop", {"dbName": "sales"})
fails(800, "collections/list", {"dbName": "nowhere"})

# ---- ids that the collection makes, rows that expire, import, truncate ----
data("collections/create", {"collectionName": "auto", "dimension": 2, "autoID": True, "params": {"ttlSeconds": 1000}})
ids = data("entities/insert", {"collectionName": "auto", "data": [{"vector": [i, 1]} for i in range(3)]})["insertIds"]
assert ids == ["1", "2", "3"], ids
fails(1804, "entities/insert", {"collectionName": "auto", "data": [{"id": 9, "vector": [1, 1]}]})
assert {"key": "collection.ttl.seconds", "value": "1000"} in data("collections/describe", {"collectionName": "auto"})["properties"]
with open(os.path.join(folder, "rows.jsonl"), "w", encoding="utf-8") as file:
    file.writelines(json.dumps({"vector": [i, 2], "word": f"w{i}"}) + "\n" for i in range(50))
for path, state, count in [("/rows.jsonl", "Completed", 53), ("../rows.jsonl", "Failed", 53), ("none.json", "Failed", 53), ("/etc/passwd", "Failed", 53)]:
    job = data("jobs/import/create", {"collectionName": "auto", "files": [[path]]})["jobId"]
    assert data("jobs/import/get_progress", {"jobId": job})["state"] == state, path
    assert data("collections/get_stats", {"collectionName": "auto"})["rowCount"] == count, path
data("collections/truncate", {"collectionName": "auto"})
assert data("entities/query", {"collectionName": "auto"}) == []

# ---- what cannot be had, and hostile bodies: one code, one message ----
fails(10, "resource_groups/list", {})
fails(100, "collections/describe", {"collectionName": "none"})
for name in ["", "../x", "a/b", "a.b", "..", "x" * 300, "a\u0000b", "%2e%2e", 5, None, "1a"]:
    status, answer = ask("collections/create", {"collectionName": name, "dimension": 4})
    assert status == 200 and answer["code"] in (1100, 1801, 1802), (name, answer)
    status, answer = ask("entities/query", {"collectionName": name})
    assert status == 200 and answer["code"] in (100, 1100, 1801, 1802), (name, answer)
    status, answer = ask("collections/create", {"collectionName": "x", "dbName": name, "dimension": 4})
    assert name in ("", None, 5) or answer["code"] in (800, 802, 1801), (name, answer)
data("collections/drop", {"collectionName": "x"})
for body in [b"", b"[]", b"{", b"nul", b"\xff\xfe", b'{"collectionName":' * 50, b"[" * 100000, b'{"a":1,"a":2}', b'"x"', b'{"collectionName": 1e999}']:
    status, answer = ask("entities/search", body)
    assert status == 200 and answer["code"] in (1801, 1802) and answer["message"], (body[:20], answer)
for change in [{"limit": 0}, {"limit": 10**9}, {"limit": -1}, {"limit": "a"}, {"offset": -5}, {"data": []}, {"data": [[1]]}, {"data": [["a"] * DIM]},
               {"data": [[1e39] * DIM]}, {"data": [None]}, {"filter": "color =="}, {"filter": 5}, {"filter": "color == {c}"}, {"filter": "a {"},
               {"annsField": "color"}, {"groupingField": "a b", "limit": 2}, {"outputFields": [5]}, {"searchParams": {"params": {"radius": "a"}}},
               {"searchParams": {"params": {"radius": 1, "range_filter": 2}}}, {"partitionNames": [3]}]:
    status, answer = ask("entities/search", {"collectionName": name if False else "quick_L2", "data": [[0] * DIM], "limit": 3, **change})
    assert status == 200 and answer["code"] in (200, 1100, 1700, 1802, 1804) and answer["message"], (change, answer)
status, answer = ask("collections/nothing", {})
assert status == 404, status

# Every route of the table, with members of every wrong kind, alone and with a collection that is there.
MEMBERS = """dbName collectionName newCollectionName newDbName dimension idType autoID metricType primaryFieldName vectorFieldName params
schema indexParams description properties propertyKeys fieldName fieldParams partitionName partitionNames data id filter exprParams
outputFields limit offset annsField groupingField groupSize searchParams search rerank aliasName indexName userName password newPassword
roleName objectType objectName privilege privilegeGroupName privileges files jobId compactionID""".split()
with open(os.path.join(os.environ["KITH_SOURCE"], "apps/server/milvus_routes.def"), encoding="utf-8") as table:
    routes = [line.split('"')[1] for line in table if line.startswith("MILVUS(")]
assert len(routes) == 105
for route in routes:
    data("collections/create", {"collectionName": "there", "dimension": 2})
    for bad in (-1, "x \u00e9", [[{}]], {"fields": [{"fieldName": "a"}], "x": [5]}):
        for known in ({}, {"collectionName": "there", "dbName": "default"}):
            status, answer = ask(route, {**{member: bad for member in MEMBERS}, **known})
            assert status == 200 and isinstance(answer["code"], int) and ("data" in answer) == (answer["code"] == 0), (route, bad, status, answer)
# Names that would lead out of the folder, or hide in it.
pieces = ["..", "/", ".", "\\", "~", "%2e", "%2f", "a", "", " ", "-", "\n", ".kith", ".milvus", "\u2024", "C:", "//", "*"]
before = set(os.listdir(os.path.dirname(os.path.abspath(folder))))
for _ in range(60):
    name = "".join(draw.choice(pieces) for _ in range(draw.randrange(2, 8)))
    if name.strip("a") == "":
        continue
    for path, body in (("collections/create", {"collectionName": name, "dimension": 2}), ("collections/drop", {"collectionName": name, "dbName": name}),
                       ("collections/rename", {"collectionName": "there", "newCollectionName": name}), ("databases/create", {"dbName": name})):
        status, answer = ask(path, body)
        assert status == 200 and (answer["code"] != 0 or path.endswith("drop")), (path, name, answer)
    answer = data("jobs/import/create", {"collectionName": "there", "files": [[name + ".json"]]})
    assert data("jobs/import/describe", {"jobId": answer["jobId"]})["state"] == "Failed", name
assert before == set(os.listdir(os.path.dirname(os.path.abspath(folder))))

# ---- dropping ----
fails(65535, "collections/drop", {"collectionName": "typed"})  # it has an alias
data("aliases/drop", {"aliasName": "now"})
for name in data("collections/list"):
    data("collections/drop", {"collectionName": name})
assert data("collections/list") == []
data("collections/drop", {"dbName": "sales", "collectionName": "typed"})
data("databases/drop", {"dbName": "sales"})
assert [f for f in os.listdir(folder) if f.endswith(".kith") and not f.startswith(".")] == [], os.listdir(folder)
print("milvus: core routes answer as they should")
