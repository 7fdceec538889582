"""Receives events with the CloudEvents SDK for Python, prints each as a line of JSON. Usage: receive.py PORT"""

import json
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloudevents.v1.http import from_http


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {
            name.lower(): urllib.parse.unquote(value) if name.lower().startswith("ce-") else value
            for name, value in self.headers.items()
        }
        event = from_http(headers, body)
        line = {"path": self.path, "data": event.data}
        line |= {name: event[name] for name in ("id", "type", "source", "ext")}
        # One write per line: requests are served side by side.
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print("ready", flush=True)
server.serve_forever()
