"""milvus_rights.py BASE ADMIN WRITE READ - what users and tokens may by the adapters of Milvus and Vearch, on a server that has tokens.

Each refusal is followed by a look with the administrator's token: nothing has changed."""
import json
import sys
import urllib.error
import urllib.request

base, admin, write, read = sys.argv[1:]


def send(method, path, who, body):
    request = urllib.request.Request(base + path, data=None if body is None else json.dumps(body).encode(), method=method)
    request.add_header("Authorization", f"Bearer {who}")
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def ask(path, body=None, who=admin):
    return send("POST", f"/v2/vectordb/{path}", who, body or {})


def data(path, body=None, who=admin):
    status, answer = ask(path, body, who)
    assert status == 200 and answer["code"] == 0, (path, body, status, answer)
    return answer["data"]


def denied(who, path, body=None):
    status, answer = ask(path, body, who)
    assert status == 403 and answer["code"] == 1401, (who, path, body, status, answer)


def fails(code, path, body, who=admin):
    answer = ask(path, body, who)[1]
    assert answer["code"] == code and answer["message"], (path, body, answer)


def user(name, *grants):
    """A user with a role of his own; each grant is the body of grant_privilege (with objectName) or grant_privilege_v2."""
    data("users/create", {"userName": name, "password": "secret1"})
    data("roles/create", {"roleName": f"r_{name}"})
    for grant in grants:
        data("roles/grant_privilege" + ("" if "objectName" in grant else "_v2"), {"roleName": f"r_{name}", **grant})
    data("users/grant_role", {"userName": name, "roleName": f"r_{name}"})
    return f"{name}:secret1"


def on(name, privilege, **more):
    return {"objectType": "Collection", "objectName": name, "privilege": privilege, **more}


data("databases/create", {"dbName": "d2"})
for name, db in (("mine", "default"), ("prod", "default"), ("secret", "d2")):
    data("collections/create", {"collectionName": name, "dbName": db, "dimension": 2})
    data("entities/insert", {"collectionName": name, "dbName": db, "data": [{"id": 1, "vector": [1, 2]}]})
data("aliases/create", {"collectionName": "prod", "aliasName": "live"})
data("aliases/create", {"collectionName": "mine", "aliasName": "own"})


def unchanged():
    assert data("collections/list") == ["mine", "prod"] and data("collections/list", {"dbName": "d2"}) == ["secret"]
    assert data("databases/list") == ["default", "d2"]
    assert data("aliases/describe", {"aliasName": "live"})["collectionName"] == "prod"
    for name, db in (("mine", "default"), ("prod", "default"), ("secret", "d2")):
        assert data("collections/get_stats", {"collectionName": name, "dbName": db})["rowCount"] == 1, name


# ---- everything on one collection is nothing on another, nor on the server ----
eve = user("eve", on("mine", "*"))
mine = {"collectionName": "mine"}
assert len(data("entities/query", mine, eve)) == len(data("entities/query", {"collectionName": "own"}, eve)) == 1
for path, body in [("users/grant_role", {"userName": "eve", "roleName": "admin"}), ("users/list", {}), ("users/create", {"userName": "mallory", "password": "secret1"}),
                   ("users/describe", {"userName": "root"}), ("users/drop", {"userName": "eve"}), ("roles/list", {}), ("roles/create", {"roleName": "mine"}),
                   ("roles/grant_privilege", {"roleName": "r_eve", **on("*", "*")}), ("roles/grant_privilege_v2", {"roleName": "r_eve", "privilege": "*", "dbName": "*"}),
                   ("privilege_groups/create", {"privilegeGroupName": "g"}), ("databases/create", {"dbName": "d3"}), ("databases/drop", {"dbName": "d2"}),
                   ("databases/alter", {"dbName": "d2", "properties": {"a": 1}}), ("resource_groups/list", {}), ("aliases/drop", {"aliasName": "live"}),
                   ("aliases/alter", {"aliasName": "live"}), ("collections/rename", {"newCollectionName": "other"}),
                   ("collections/rename", {"newCollectionName": "mine", "newDbName": "d2"})]:
    denied(eve, path, {**body, **mine})
for path, body in [("collections/drop", {}), ("entities/query", {}), ("entities/delete", {"filter": "id > 0"}), ("aliases/create", {"aliasName": "x"}), ("collections/truncate", {})]:
    for name in ("prod", "live"):
        denied(eve, path, {**body, "collectionName": name})
        denied(eve, path, {**body, "collectionName": name, "objectName": "mine", "aliasName": "own"})
    denied(eve, path, {**body, "collectionName": "secret", "dbName": "d2"})
denied(eve, "collections/create", {"collectionName": "sneak", "dimension": 2})
data("aliases/alter", {"aliasName": "own", "collectionName": "mine"}, eve)
denied(eve, "aliases/alter", {"aliasName": "own", "collectionName": "live"})
# The other adapter: neither a member of the body nor of the other interface says what it is about.
for method, path, body in [("POST", "/dbs/default/spaces", {**mine, "name": "sneak", "fields": [{"name": "v", "type": "vector", "dimension": 2}]}),
                           ("DELETE", "/dbs/default/spaces/prod", mine), ("GET", "/dbs/default/spaces/prod", mine), ("POST", "/dbs/d3", mine), ("DELETE", "/dbs/d2", mine),
                           ("POST", "/document/query", {**mine, "space_name": "prod", "document_ids": ["1"]}), ("POST", "/index/rebuild", {"space_name": "prod", **mine})]:
    status, answer = send(method, path, eve, body)
    assert status == 403, (method, path, status, answer)
assert [s["space_name"] for s in send("GET", "/dbs/default/spaces", eve, None)[1]["data"]] == ["mine"]
unchanged()

# ---- a grant on one database is none on another, whatever the names of files ----
dan = user("dan", on("*", "CollectionReadOnly"), on("*", "DatabaseAdmin"))
assert len(data("entities/query", {"collectionName": "prod"}, dan)) == 1
for who in (dan, admin):
    for path, body in [("entities/query", {}), ("collections/describe", {}), ("collections/drop", {}), ("aliases/create", {"aliasName": "x"}),
                       ("collections/rename", {"newCollectionName": "x"}), ("entities/insert", {"data": [{"id": 2, "vector": [1, 2]}]})]:
        status, answer = ask(path, {**body, "collectionName": "d2.secret"}, who)
        assert answer["code"] == 100, (who, path, answer)
denied(dan, "collections/create", {"collectionName": "x", "dbName": "d2", "dimension": 2})
denied(dan, "entities/query", {"collectionName": "secret", "dbName": "d2"})
denied(dan, "entities/insert", {"collectionName": "prod", "data": [{"id": 2, "vector": [1, 2]}]})
denied(dan, "users/list")
denied(dan, "databases/create", {"dbName": "d3"})
data("collections/create", {"collectionName": "dans", "dimension": 2}, dan)
data("collections/drop", {"collectionName": "dans"}, dan)
unchanged()
# One for all databases, which is said by "*"; what is of the server needs it.
amy = user("amy", {"privilege": "CollectionReadOnly", "dbName": "*", "collectionName": "*"}, {"privilege": "ClusterAdmin", "dbName": "*"})
assert len(data("entities/query", {"collectionName": "secret", "dbName": "d2"}, amy)) == 1
assert "amy" in data("users/list", {}, amy)
denied(amy, "collections/drop", {"collectionName": "secret", "dbName": "d2"})
gus = user("gus", {"objectType": "Global", "objectName": "*", "privilege": "SelectOwnership"})
assert "gus" in data("users/list", {}, gus)
denied(gus, "users/create", {"userName": "mallory", "password": "secret1"})
uma = user("uma", {"objectType": "User", "objectName": "mine", "privilege": "*"})
denied(uma, "entities/query", mine)
unchanged()

# ---- a group is what is in it; a word that is no privilege cannot be granted ----
data("privilege_groups/create", {"privilegeGroupName": "lookers"})
data("privilege_groups/add_privileges_to_group", {"privilegeGroupName": "lookers", "privileges": ["Search", "Query"]})
lou = user("lou", on("prod", "lookers"))
assert len(data("entities/query", {"collectionName": "live"}, lou)) == 1
data("entities/search", {"collectionName": "prod", "data": [[1, 2]]}, lou)
for path, body in [("collections/drop", {}), ("entities/insert", {"data": [{"id": 2, "vector": [1, 2]}]}), ("entities/delete", {"filter": "id > 0"}), ("collections/describe", {})]:
    denied(lou, path, {**body, "collectionName": "prod"})
for word in ("Serach", "search", "Public", "Ownership", "nobodys_group"):
    fails(1100, "roles/grant_privilege", {"roleName": "r_lou", **on("prod", word)})
    fails(1100, "roles/grant_privilege_v2", {"roleName": "r_lou", "privilege": word, "collectionName": "prod"})
    fails(1100, "privilege_groups/add_privileges_to_group", {"privilegeGroupName": "lookers", "privileges": [word]})
for word in ("Search", "*", "All", "CollectionAdmin"):
    fails(1100, "privilege_groups/create", {"privilegeGroupName": word})
assert [g["privilege"] for g in data("roles/describe", {"roleName": "r_lou"})] == ["lookers"]
fails(1100, "privilege_groups/drop", {"privilegeGroupName": "lookers"})  # who has it would have the next one of its name
# Roles that go, go from their users, and aliases with their database.
rae = user("rae", on("prod", "Query"))
data("roles/drop", {"roleName": "r_rae"})
data("roles/create", {"roleName": "r_rae"})
data("roles/grant_privilege", {"roleName": "r_rae", **on("prod", "Query")})
assert data("users/describe", {"userName": "rae"}) == []
denied(rae, "entities/query", {"collectionName": "prod"})
for _ in range(2):
    data("databases/create", {"dbName": "d4"})
    assert data("aliases/list", {"dbName": "d4"}) == []
    data("collections/create", {"dbName": "d4", "collectionName": "c", "dimension": 2})
    data("aliases/create", {"dbName": "d4", "collectionName": "c", "aliasName": "a"})
    send("DELETE", "/v1/collections/d4.c", admin, None)
    data("databases/drop", {"dbName": "d4"})
# Insert is not Delete, and neither says what an alias stands for.
ian = user("ian", on("mine", "Insert"), on("prod", "Insert"))
data("entities/insert", {"collectionName": "mine", "data": [{"id": 1, "vector": [1, 2]}]}, ian)
for path, body in [("entities/delete", {"collectionName": "mine", "filter": "id > 0"}), ("entities/query", mine), ("collections/drop", mine),
                   ("aliases/drop", {"aliasName": "live"}), ("aliases/alter", {"aliasName": "live", **mine}), ("indexes/drop", {**mine, "indexName": "vector"})]:
    denied(ian, path, body)
job = data("jobs/import/create", {"collectionName": "prod", "files": [["none.json"]]})["jobId"]
denied(ian, "jobs/import/describe", {"jobId": job, **mine})
assert data("jobs/import/list", {}, ian)["records"] == [] and len(data("jobs/import/list", {}, eve)["records"]) == 0 and len(data("jobs/import/list")["records"]) == 1
unchanged()

# ---- a user changes his own password, and sees his own roles; no one else's ----
denied(lou, "users/update_password", {"userName": "eve", "password": "secret1", "newPassword": "secret2"})
fails(1400, "users/update_password", {"userName": "lou", "password": "wrong11", "newPassword": "secret2"}, lou)
data("users/update_password", {"userName": "lou", "password": "secret1", "newPassword": "secret2"}, lou)
assert data("users/describe", {"userName": "lou"}, "lou:secret2") == ["r_lou"]
assert ask("collections/list", {}, lou)[0] == 401

# ---- tokens: write is for rows, as with the native interface; collections and databases are the administrator's ----
for path, body in [("collections/create", {"collectionName": "x", "dimension": 2}), ("collections/drop", mine), ("collections/rename", {**mine, "newCollectionName": "x"}),
                   ("collections/alter_properties", {**mine, "properties": {"collection.ttl.seconds": 1}}), ("collections/fields/drop", {**mine, "fieldName": "x"}),
                   ("databases/create", {"dbName": "d3"}), ("databases/drop", {"dbName": "d2"}), ("users/list", {})]:
    denied(write, path, body)
    denied(read, path, body)
for method, path in (("DELETE", "/dbs/default/spaces/prod"), ("POST", "/dbs/d3"), ("DELETE", "/dbs/d2"), ("POST", "/dbs/default/spaces")):
    assert send(method, path, write, {"name": "x"} if path.endswith("spaces") else None)[0] == 403, path
denied(read, "entities/insert", {**mine, "data": [{"id": 1, "vector": [1, 2]}]})
data("entities/insert", {**mine, "data": [{"id": 1, "vector": [1, 2]}]}, write)
assert len(data("entities/query", mine, read)) == 1
unchanged()
print("milvus: users and tokens may what they were given, and nothing else")
