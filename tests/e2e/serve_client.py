"""serve_client.py - a client of `kith serve` that holds every answer against the server's own OpenAPI document."""
import http.client
import json
import re
import urllib.parse

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}


class Client:
    def __init__(self, base, token=None):
        self.host = urllib.parse.urlsplit(base).netloc
        self.token = token
        self.connection = None
        self.asked = set()  # (method, path of the document, status)
        self.document = json.loads(self.fetch("GET", "/v1/openapi.json")[2])
        assert self.document["openapi"].startswith("3.1"), self.document["openapi"]
        self.forms = [(re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path) + "$"), path) for path in self.document["paths"]]

    def fetch(self, method, path, body=None, kind=None, headers=None, token=""):
        headers = dict(headers or {})
        if kind:
            headers["Content-Type"] = kind
        if self.token and token is not None:
            headers["Authorization"] = "Bearer " + self.token
        for attempt in (0, 1):  # a connection that was kept may have been closed meanwhile
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.host, timeout=60)
            try:
                self.connection.request(method, path, body=body, headers=headers)
                response = self.connection.getresponse()
                return response.status, response.headers.get_content_type(), response.read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.connection.close()
                self.connection = None
                if attempt:
                    raise

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def check(self, value, schema, where):
        schema = self.resolve(schema)
        if "type" in schema:
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            fits = any(isinstance(value, TYPES[t]) and (t == "boolean" or not isinstance(value, bool)) for t in types)
            assert fits, f"{where}: {value!r} is not {types}"
        if "enum" in schema:
            assert value in schema["enum"], f"{where}: {value!r} is none of {schema['enum']}"
        if value is None:
            return
        for name in schema.get("required", []):
            assert name in value, f"{where}: no {name}"
        known = schema.get("properties")
        if known and isinstance(value, dict):
            assert set(value) <= set(known), f"{where}: {set(value) - set(known)} is not in the document"
            for name, inner in known.items():
                if name in value:
                    self.check(value[name], inner, f"{where}.{name}")
        for i, item in enumerate(value if isinstance(value, list) else []):
            self.check(item, schema.get("items", {}), f"{where}[{i}]")

    def ask(self, method, path, body=None, status=200, kind=None, headers=None):
        """The answer, parsed where it is JSON; its status, type and form are checked."""
        if isinstance(body, (dict, list)):
            body, kind = json.dumps(body).encode(), kind or "application/json"
        got, content, answer = self.fetch(method, path, body, kind, headers)
        assert got == status, f"{method} {path}: {got} instead of {status}: {answer[:300]}"
        bare = path.split("?")[0]
        form = next((known for pattern, known in self.forms if pattern.match(bare)), None)
        assert form, f"{path} is not in the document"
        operation = self.document["paths"][form].get("get" if method == "HEAD" else method.lower())
        assert operation, f"{method} {form} is not in the document"
        self.asked.add((method, form, status))
        responses = operation["responses"]
        assert str(status) in responses or (status >= 400 and "default" in responses), f"{method} {form}: {status} is not in the document"
        promised = self.resolve(responses.get(str(status), responses.get("default")))
        media = promised.get("content", {})
        if not media:
            return answer
        assert content in media or "image/*" in media, f"{method} {path}: {content} instead of {list(media)}"
        if not content.endswith("json"):
            return answer
        value = json.loads(answer)
        self.check(value, media[content]["schema"], f"{method} {path}")
        return value

    def missed(self):
        """Operations of the document that had no answer of success yet."""
        good = {(method, form) for method, form, status in self.asked if status < 400}
        return [(method.upper(), form) for form, item in self.document["paths"].items() for method in item
                if method != "parameters" and (method.upper(), form) not in good]
