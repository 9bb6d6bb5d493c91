"""A trained network behind HTTP: POST a file, get its class.

    spikeloom train plif/digits
    python examples/serve.py runs/plif-digits/1 8000
    curl --data-binary @seven.png http://127.0.0.1:8000/

Only the standard library: each request runs in a thread of its own, and a `Network` may answer
several at once.
"""

import json
import sys
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import spikeloom as sl
from spikeloom.errors import SpikeloomError

LARGEST = 16 << 20  # bytes of a request


def server(run: str, port: int) -> ThreadingHTTPServer:
    """Answers on 127.0.0.1; port 0 takes a free one."""
    network = sl.load(run)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= LARGEST:
                self.answer(413, {"error": f"send a file of 1 to {LARGEST} bytes"})
                return
            try:
                [prediction] = network.predict(self.rfile.read(length))
            except SpikeloomError as error:
                self.answer(400, {"error": str(error)})
            else:
                self.answer(200, asdict(prediction))

        def answer(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    with server(sys.argv[1], int(sys.argv[2])) as running:
        print(f"listening on http://127.0.0.1:{running.server_port}/")
        running.serve_forever()
