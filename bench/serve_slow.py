"""serve_slow.py URL N SECONDS - N connections that are slow: a third each dribble a head, dribble a body, and read an answer byte by
byte. What the server closes is opened again. For serve_load.sh."""
import resource
import selectors
import socket
import sys
import time
import urllib.parse

url, n, seconds = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
BODY = b"POST /v1/collections/load/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"
starts = [(b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"), (BODY, b" "), (b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", b"")]
opened = closed = 0


def dial(i):
    global opened
    s = socket.create_connection((url.hostname, url.port), timeout=5)
    s.sendall(starts[i % 3][0])
    s.setblocking(False)
    opened += 1
    return s


slow = [None] * n
end = time.monotonic() + seconds
while time.monotonic() < end:
    for i in range(n):
        try:
            if slow[i] is None:
                slow[i] = dial(i)
            elif starts[i % 3][1]:
                slow[i].send(starts[i % 3][1])
            if slow[i].recv(1) == b"":
                raise ConnectionResetError
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            if slow[i]:
                slow[i].close()
                closed += 1
            slow[i] = None
    time.sleep(max(0, min(3, end - time.monotonic())))
print(f"{n} slow connections: {opened} opened, {closed} closed by the server")
