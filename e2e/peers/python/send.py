"""Sends one event in binary and one in structured mode with the CloudEvents SDK for Python. Usage: send.py URL"""

import sys
import urllib.request

from cloudevents.v1.http import CloudEvent, to_binary, to_structured

for mode, encode in (("binary", to_binary), ("structured", to_structured)):
    event = CloudEvent(
        {
            "id": mode,
            "source": "/foreign",
            "type": "e2e.foreign",
            "datacontenttype": "application/json",
            "ext": "ümlaut 100%",
        },
        {"greeting": "grüß dich", "n": 7},
    )
    headers, body = encode(event)
    # The SDK leaves the percent-encoding of header values to its user.
    headers = {
        name: urllib.request.quote(value, safe="/:+-.") if name.startswith("ce-") else value
        for name, value in headers.items()
    }
    request = urllib.request.Request(sys.argv[1], data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 202, answer.status
