"""check_openapi.py BASE COLLECTION PICTURE - ask every path of the server's own OpenAPI document, and hold each JSON
answer against the schema that the document gives for it."""
import json
import sys
import urllib.error
import urllib.request

base, collection, picture = sys.argv[1:]


def fetch(method, path, body=None, kind=None):
    request = urllib.request.Request(base + path, data=body, method=method)
    if kind:
        request.add_header("Content-Type", kind)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.headers.get_content_type(), response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


document = json.loads(fetch("GET", "/v1/openapi.json")[2])
assert document["openapi"].startswith("3.1"), document["openapi"]


def resolve(node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}


def check(value, schema, where):
    schema = resolve(schema)
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        fits = any(isinstance(value, TYPES[t]) and (t == "boolean" or not isinstance(value, bool)) for t in types)
        assert fits, f"{where}: {value!r} is not {types}"
    for name in schema.get("required", []):
        assert name in value, f"{where}: no {name}"
    for name, inner in schema.get("properties", {}).items():
        if isinstance(value, dict) and name in value:
            check(value[name], inner, f"{where}.{name}")
    known = schema.get("properties")
    if known and isinstance(value, dict):
        assert set(value) <= set(known), f"{where}: {set(value) - set(known)} is not in the document"
    for i, item in enumerate(value if isinstance(value, list) else []):
        check(item, schema.get("items", {}), f"{where}[{i}]")


def check_answer(operation, method, path, body=None, kind=None, status=200):
    got, content, answer = fetch(method, path, body, kind)
    assert got == status, f"{method} {path}: {got} instead of {status}: {answer[:300]}"
    promised = resolve(operation["responses"].get(str(status), operation["responses"].get("default", {})))
    for form, media in promised.get("content", {}).items():
        assert form in (content, "image/*"), f"{method} {path}: {content} instead of {form}"
        if "json" in form:
            check(json.loads(answer), media["schema"], f"{method} {path}")


asked = 0
for path, item in document["paths"].items():
    real = path.replace("{collection}", collection).replace("{key}", "1")
    if "get" in item:
        check_answer(item["get"], "GET", real)
        asked += 1
    if "post" in item:
        bodies = [(open(picture, "rb").read(), "application/octet-stream"),
                  (json.dumps({"like": [1], "unlike": [2], "k": 3}).encode(), "application/json")]
        for body, kind in bodies:
            check_answer(item["post"], "POST", real, body, kind)
        check_answer(item["post"], "POST", real, b"{", "application/json", 400)
        check_answer(item["post"], "POST", real, b"no picture", "application/octet-stream", 415)
        asked += 4
    if "{collection}" in path:
        wrong = path.replace("{collection}", "nobody").replace("{key}", "1")
        method = "get" if "get" in item else "post"
        check_answer(item[method], method.upper(), wrong, None if method == "get" else b'{"like":[1]}', "application/json", 404)
        asked += 1
    if "{key}" in path:
        check_answer(item["get"], "GET", path.replace("{collection}", collection).replace("{key}", "99999999"), status=404)
        asked += 1
print(f"{asked} answers are as the document says")
