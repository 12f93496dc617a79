"""vearch.py BASE - Vearch's document, space and index calls: exact answers, partial updates, hostile bodies."""
import json
import random
import sys
import urllib.error
import urllib.request

base = sys.argv[1]


def ask(method, path, body=None):
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def data(method, path, body=None):
    status, answer = ask(method, path, body)
    assert status == 200 and answer["code"] == 0 and answer["msg"] == "success", f"{method} {path}: {status} {answer}"
    return answer["data"]


def fails(status, method, path, body=None):
    got, answer = ask(method, path, body)
    assert got == status and answer["code"] != 0 and answer["msg"], f"{method} {path}: {got} {answer} instead of {status}"


draw = random.Random(3)


def vector(dim):
    return [round(draw.gauss(0, 1), 4) for _ in range(dim)]


def l2(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b))


def ip(a, b):
    return sum(x * y for x, y in zip(a, b))


# ---- dbs and spaces ----
fails(404, "GET", "/dbs/shop")
assert data("POST", "/dbs/shop")["name"] == "shop"
fails(400, "POST", "/dbs/shop")
assert [d["name"] for d in data("GET", "/dbs")] == ["default", "shop"]
space = {"name": "items", "partition_num": 1, "replica_num": 1, "fields": [
    {"name": "price", "type": "integer", "index": {"name": "price", "type": "SCALAR"}},
    {"name": "brand", "type": "string"}, {"name": "added", "type": "date"}, {"name": "tags", "type": "stringArray"},
    {"name": "look", "type": "vector", "dimension": 6, "index": {"name": "gamma", "type": "FLAT", "params": {"metric_type": "L2"}}},
    {"name": "words", "type": "vector", "dimension": 4, "index": {"name": "gamma", "type": "HNSW", "params": {"metric_type": "InnerProduct"}}}]}
told = data("POST", "/dbs/shop/spaces", space)
assert told["space_name"] == "items" and [f["name"] for f in told["schema"]["fields"]] == [f["name"] for f in space["fields"]], told
fails(400, "POST", "/dbs/shop/spaces", {**space, "fields": space["fields"][:1]})
fails(400, "POST", "/dbs/shop/spaces", {"name": "other", "fields": [{"name": "x", "type": "nothing"}]})
fails(400, "POST", "/dbs/shop/spaces", {**space, "name": "../x"})
fails(404, "POST", "/dbs/none/spaces", space)

# ---- documents ----
where = {"db_name": "shop", "space_name": "items"}
docs = [{"_id": f"d{i}", "price": i, "brand": ["ant", "bee", "cow"][i % 3], "added": f"2024-0{1 + i % 9}-15", "tags": ["all", f"t{i % 4}"],
         "look": vector(6), "words": vector(4)} for i in range(90)]
answer = data("POST", "/document/upsert", {**where, "documents": docs})
assert answer["total"] == 90 and answer["document_ids"][5] == {"_id": "d5"}, answer
assert data("GET", "/dbs/shop/spaces/items")["doc_num"] == 90
assert [s["space_name"] for s in data("GET", "/dbs/shop/spaces")] == ["items"]
got = data("POST", "/document/query", {**where, "document_ids": ["d3", "none", "d4"], "fields": ["price", "tags"]})
assert got == {"total": 2, "documents": [{"_id": "d3", "price": 3, "tags": ["all", "t3"]}, {"_id": "d4", "price": 4, "tags": ["all", "t0"]}]}, got
one = data("POST", "/document/query", {**where, "document_ids": ["d3"]})["documents"][0]
assert set(one) == {"_id", "price", "brand", "added", "tags"}, one
one = data("POST", "/document/query", {**where, "document_ids": ["d3"], "vector_value": True})["documents"][0]
assert all(abs(x - y) < 1e-6 for x, y in zip(one["look"], docs[3]["look"])), one


def conditions(*list_of, operator="AND"):
    return {"operator": operator, "conditions": [{"field": f, "operator": o, "value": v} for f, o, v in list_of]}


for filters, keep in [
        (conditions(("price", ">=", 10), ("price", "<", 20)), lambda d: 10 <= d["price"] < 20),
        (conditions(("brand", "IN", ["ant", "cow"]), ("price", "<>", 0)), lambda d: d["brand"] != "bee" and d["price"] != 0),
        (conditions(("brand", "=", "bee"), ("price", ">", 85), operator="OR"), lambda d: d["brand"] == "bee" or d["price"] > 85),
        (conditions(("tags", "IN", ["t1", "t2"]), ("brand", "NOT IN", ["ant"])), lambda d: d["tags"][1] in ("t1", "t2") and d["brand"] != "ant"),
        (conditions(("added", ">=", "2024-08-01")), lambda d: d["added"] >= "2024-08-01")]:
    wanted = [d["_id"] for d in docs if keep(d)]
    got = data("POST", "/document/query", {**where, "filters": filters, "limit": 100})
    assert [d["_id"] for d in got["documents"]] == wanted and got["total"] == len(wanted), (filters, got)

# ---- search ----
q, w = vector(6), vector(4)
truth = sorted(((d["_id"], l2(q, d["look"])) for d in docs), key=lambda t: t[1])
many = data("POST", "/document/search", {**where, "limit": 5, "vectors": [{"field": "look", "feature": q + docs[9]["look"]}], "fields": ["brand"]})["documents"]
assert len(many) == 2 and [r["_id"] for r in many[0]] == [t[0] for t in truth[:5]] and many[1][0]["_id"] == "d9", many
assert all(abs(r["_score"] - t[1]) < 1e-4 and set(r) == {"_id", "_score", "brand"} for r, t in zip(many[0], truth)), many[0]
some = data("POST", "/document/search", {**where, "limit": 5, "vectors": [{"field": "look", "feature": q}], "filters": conditions(("price", ">", 50))})["documents"][0]
assert [r["_id"] for r in some] == [t[0] for t in truth if int(t[0][1:]) > 50][:5], some
low, high = truth[3][1] - 1e-4, truth[12][1] + 1e-4
inside = data("POST", "/document/search", {**where, "limit": 50, "vectors": [{"field": "look", "feature": q, "min_score": low, "max_score": high}]})["documents"][0]
assert [r["_id"] for r in inside] == [t[0] for t in truth[3:13]], inside
best = sorted(((d["_id"], ip(w, d["words"])) for d in docs), key=lambda t: -t[1])
found = data("POST", "/document/search", {**where, "limit": 50, "vectors": [{"field": "words", "feature": w, "min_score": best[7][1] - 1e-4}]})["documents"][0]
assert [r["_id"] for r in found] == [t[0] for t in best[:8]], found
both = data("POST", "/document/search", {**where, "limit": 6, "vectors": [{"field": "look", "feature": q}, {"field": "words", "feature": w}],
                                         "ranker": {"type": "WeightedRanker", "params": [1, 0]}})["documents"][0]
assert both[0]["_id"] == truth[0][0], both

# ---- a document that is there keeps what is not said; ids are made; delete ----
data("POST", "/document/upsert", {**where, "documents": [{"_id": "d3", "price": 300}]})
one = data("POST", "/document/query", {**where, "document_ids": ["d3"], "vector_value": True})["documents"][0]
assert one["price"] == 300 and one["brand"] == "ant" and len(one["look"]) == 6, one
made = data("POST", "/document/upsert", {**where, "documents": [{"look": vector(6), "price": 1000}]})["document_ids"][0]["_id"]
assert len(made) == 16 and data("POST", "/document/query", {**where, "document_ids": [made]})["total"] == 1
assert data("POST", "/document/delete", {**where, "document_ids": [made, "none"]}) == {"total": 1, "document_ids": [made]}
gone = data("POST", "/document/delete", {**where, "filters": conditions(("price", "<", 10)), "limit": 4})
assert gone == {"total": 4, "document_ids": ["d0", "d1", "d2", "d4"]}, gone
for call in ("flush", "forcemerge", "rebuild"):
    data("POST", f"/index/{call}", where)

# ---- what is wrong is said, with a status ----
for body in [b"", b"[]", b"{", b"\xff", b"[" * 1000]:
    for path in ("/document/search", "/document/upsert", "/document/query", "/document/delete"):
        fails(400, "POST", path, body)
fails(404, "POST", "/document/query", {"db_name": "shop", "space_name": "none", "document_ids": ["a"]})
fails(404, "POST", "/document/query", {"db_name": "none", "space_name": "items", "document_ids": ["a"]})
for change in [{"documents": [{"price": "a"}]}, {"documents": [5]}, {"documents": [{"look": [1]}]}, {"documents": [{"_id": "x"}]},
               {"documents": [{"look": vector(6), "unknown": 1}]}, {"documents": [{"_id": 5, "look": vector(6)}]}]:
    fails(400, "POST", "/document/upsert", {**where, **change})
for change in [{"vectors": [{"field": "look", "feature": [1] * 7}]}, {"vectors": [{"field": "price", "feature": [1]}]}, {"vectors": [{}]}, {"vectors": 5},
               {"vectors": [{"field": "look", "feature": ["a"] * 6}]}, {"limit": 0, "vectors": [{"field": "look", "feature": q}]},
               {"vectors": [{"field": "look", "feature": q}], "filters": conditions(("price", "~", 1))},
               {"vectors": [{"field": "look", "feature": q}], "filters": conditions(("none", "=", 1))},
               {"vectors": [{"field": "look", "feature": q}], "filters": conditions(("price", "IN", 1))},
               {"vectors": [{"field": "look", "feature": q}], "filters": conditions(("price", "=", {"a": 1}))}]:
    fails(400, "POST", "/document/search", {**where, **change})
fails(400, "POST", "/document/query", {**where, "document_ids": ["a"], "filters": conditions(("price", "=", 1))})
fails(400, "POST", "/document/query", where)
assert ask("PUT", "/dbs/shop")[0] == 405 and ask("POST", "/document/none", {})[0] == 404
fails(400, "DELETE", "/dbs/shop")
data("DELETE", "/dbs/shop/spaces/items")
fails(404, "DELETE", "/dbs/shop/spaces/items")
data("DELETE", "/dbs/shop")
fails(404, "DELETE", "/dbs/shop")
print("vearch: documents, spaces and indexes answer as they should")
