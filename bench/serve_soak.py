"""serve_soak.py [MINUTES] [ROWS] [CONNECTIONS] - `kith serve` for hours: searches (80 %), upserts (15 %) and deletes (5 %) on CONNECTIONS
connections over a collection of ROWS vectors, indexes built anew meanwhile. docs/quality.md has the last result.

Each answer is judged: a status that is not expected, a row that is not what was written last, or a search that does not find the
row whose own vector it asks for, ends it. Each minute prints requests, p50 and p99, memory and descriptors; at the end those of the last sixth are
compared with the second sixth (the first one warms up): memory may grow by 2 % and a megabyte, p99 by a half, descriptors not at all. Needs kith in
the PATH."""
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 60
rows = int(sys.argv[2]) if len(sys.argv) > 2 else 50000
connections = int(sys.argv[3]) if len(sys.argv) > 3 else 32
DIM, NAME = 32, "/v1/collections/soak"
seed = int.from_bytes(os.urandom(4), "big")
print(f"seed {seed}", flush=True)
folder = tempfile.mkdtemp(prefix="kith-soak-")
server = subprocess.Popen(["kith", "serve", folder, "--write", "--port", "0", "--quiet"], stdout=subprocess.PIPE, text=True)
host = re.match(r"http://([^/]*)/", server.stdout.readline())[1]
model = [None] * rows  # the version of each row; None: deleted. A row belongs to one writer, so nobody else changes it meanwhile.
latencies, lock, faults = [], threading.Lock(), []
ending = threading.Event()


class Connection:
    def __init__(self):
        self.http = http.client.HTTPConnection(host, timeout=60)

    def ask(self, method, path, body=None, expect=(200,), timed=True):
        began = time.perf_counter()
        self.http.request(method, path, body=None if body is None else json.dumps(body), headers={"Content-Type": "application/json"})
        response = self.http.getresponse()
        answer = response.read()
        if timed:
            with lock:
                latencies.append(time.perf_counter() - began)
        if response.status not in expect:
            raise AssertionError(f"{method} {path}: {response.status}: {answer[:300]}")
        return response.status, json.loads(answer) if answer else None


def vector(key, version):
    chance = random.Random(key * 1000003 + version)
    return [chance.uniform(-1, 1) for _ in range(DIM)]


def row(key, version):
    return {"key": key + 1, "vector": vector(key, version), "payload": {"version": version, "kind": key % 7}}


def work(number):
    """One connection: it writes the rows whose key is its number, modulo the connections."""
    chance, c = random.Random(seed + number), Connection()
    own = range(number, rows, connections)
    while not ending.is_set():
        key, turn = chance.choice(own), chance.random()
        if turn < 0.80:
            if model[key] is None:
                continue
            _, found = c.ask("POST", NAME + "/search", {"vector": vector(key, model[key]), "k": 5, **({"filter": f"kind == {key % 7}"} if turn < 0.1 else {})})
            first = found["results"][0]
            assert first["key"] == key + 1 and first["payload"]["version"] == model[key], f"row {key + 1} version {model[key]}: {first}"
        elif turn < 0.95:
            version = chance.randrange(1 << 30)
            c.ask("POST", NAME + "/rows", {"rows": [row(key, version)]})
            model[key] = version
        else:
            status, _ = c.ask("DELETE", f"{NAME}/rows/{key + 1}", expect=(204, 404))
            assert (status == 404) == (model[key] is None), f"row {key + 1}: {status}"
            model[key] = None


def guarded(number):
    try:
        work(number)
    except Exception as fault:
        faults.append(fault)
        ending.set()


def state():
    status = open(f"/proc/{server.pid}/status").read()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, len(os.listdir(f"/proc/{server.pid}/fd"))


def ask(*what, **how):
    """On a connection of its own: the server closes those that are silent for long."""
    return Connection().ask(*what, timed=False, **how)


ask("PUT", NAME, {"dim": DIM}, expect=(201,))
for begin in range(0, rows, 1000):
    ask("POST", NAME + "/rows", {"rows": [row(key, 0) for key in range(begin, min(begin + 1000, rows))]})
model[:] = [0] * rows
threads = [threading.Thread(target=guarded, args=(n,)) for n in range(connections)]
for thread in threads:
    thread.start()
began, total, windows = time.monotonic(), 0, []
window = min(60.0, minutes * 60 / 12)
while not ending.wait(window):
    with lock:
        taken, latencies = sorted(latencies), []
    total += len(taken)
    memory, descriptors = state()
    p50, p99 = (taken[int(len(taken) * q)] * 1e3 if taken else 0 for q in (0.5, 0.99))
    windows.append((memory, descriptors, p99))
    print(f"{(time.monotonic() - began) / 60:7.1f} min {len(taken):8d} requests  p50 {p50:6.2f} ms  p99 {p99:7.2f} ms  {memory:7.1f} MB  {descriptors} descriptors", flush=True)
    if len(windows) % 5 == 1:
        ask("POST", NAME + "/jobs", {"kind": "index", "always": True}, expect=(202, 503))
    if time.monotonic() - began > minutes * 60:
        ending.set()
for thread in threads:
    thread.join()
live = sum(version is not None for version in model)
count = ask("GET", NAME + "/count")[1]["count"]
server.terminate()
code = server.wait(60)
check = subprocess.run(["kith", "verify", f"{folder}/soak.kith"], capture_output=True, text=True)


def over(part, of):
    return sum(w[of] for w in part) / len(part)


sixth = max(1, len(windows) // 6)
early, late = windows[sixth:2 * sixth] or windows, windows[-sixth:]
if not faults:
    if count != live:
        faults.append(f"{count} rows, {live} expected")
    if code != 0 or check.returncode != 0:
        faults.append(f"status {code}; {check.stdout}{check.stderr}")
    if over(late, 0) > over(early, 0) * 1.02 + 1:
        faults.append(f"memory grew: {over(early, 0):.1f} to {over(late, 0):.1f} MB")
    if over(late, 1) > over(early, 1):
        faults.append(f"descriptors grew: {over(early, 1)} to {over(late, 1)}")
    if over(late, 2) > over(early, 2) * 1.5:
        faults.append(f"p99 grew: {over(early, 2):.2f} to {over(late, 2):.2f} ms")
print(f"{total} requests in {(time.monotonic() - began) / 60:.1f} min on {connections} connections; {live} rows; memory {over(early, 0):.1f} -> {over(late, 0):.1f} MB; "
      f"p99 {over(early, 2):.2f} -> {over(late, 2):.2f} ms; {'sound' if check.returncode == 0 else 'NOT SOUND'}")
for fault in faults:
    print(f"FAULT: {fault}")
sys.exit(1 if faults else 0)
