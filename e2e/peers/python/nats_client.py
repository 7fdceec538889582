"""A NATS client of other people (nats-py) on a channel's stream.

nats_client.py publish URL SUBJECT   stores an event in binary mode, one in structured mode, and a message that is none
nats_client.py read URL SUBJECT N    prints N messages of the stream, a line of JSON each
"""

import asyncio
import json
import sys

import nats


async def publish(stream, subject):
    binary = {
        "ce-specversion": "1.0",
        "ce-id": "binary",
        "ce-source": "/foreign",
        "ce-type": "e2e.foreign",
        "ce-ext": "%C3%BCmlaut 100%25",
        "content-type": "application/json",
    }
    await stream.publish(subject, b'{"n": 1.50}', headers=binary)
    structured = (
        '{"specversion": "1.0", "id": "structured", "source": "/foreign", "type": "e2e.foreign",'
        ' "ext": "\\u00fcmlaut 100%", "datacontenttype": "application/json", "data": {"n": 1.50}}'
    )
    await stream.publish(subject, structured.encode(), headers={"content-type": "application/cloudevents+json"})
    await stream.publish(subject, b"no event at all")


async def read(stream, subject, count):
    subscription = await stream.subscribe(subject, ordered_consumer=True)
    for _ in range(count):
        message = await subscription.next_msg(timeout=20)
        print(json.dumps({"headers": message.headers or {}, "data": message.data.decode()}))


async def main():
    verb, url, subject, *more = sys.argv[1:]
    client = await nats.connect(url)
    stream = client.jetstream()
    if verb == "publish":
        await publish(stream, subject)
    else:
        await read(stream, subject, int(more[0]))
    await client.drain()


asyncio.run(main())
