"""Holds realtime sessions through a gateway with the official Python SDK.

    realtime.py HOST:PORT API_KEY

One line per session; exit 1 when one failed. Each has one response.
"""

import asyncio
import sys

from openai import AsyncOpenAI, AsyncAzureOpenAI, OpenAI

address, key = sys.argv[1:]
MODEL = "gpt-realtime"
options = {"max_retries": 0, "timeout": 30}
ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello."}]}


def check(events):
    kinds = [event.type for event in events]
    assert kinds[0] == "session.created", kinds
    done = events[-1]
    assert done.type == "response.done" and done.response.status == "completed", done
    assert done.response.usage.output_tokens > 0, done
    assert any(kind.endswith("audio.delta") for kind in kinds), kinds


def plain():
    client = OpenAI(base_url=f"http://{address}/v1", api_key=key, **options)
    with client.realtime.connect(model=MODEL) as session:
        session.conversation.item.create(item=ITEM)
        session.response.create()
        events = []
        for event in session:
            events.append(event)
            if event.type == "response.done":
                break
    check(events)


async def turn(session):
    await session.conversation.item.create(item=ITEM)
    await session.response.create()
    events = []
    async for event in session:
        events.append(event)
        if event.type == "response.done":
            return events
    raise AssertionError("the session ended early")


async def plain_async():
    client = AsyncOpenAI(base_url=f"http://{address}/v1", api_key=key, **options)
    async with client.realtime.connect(model=MODEL) as session:
        check(await turn(session))


async def azure():
    client = AsyncAzureOpenAI(
        azure_endpoint=f"http://{address}",
        websocket_base_url=f"ws://{address}/openai",
        api_version="2025-04-01-preview",
        api_key=key,
        **options,
    )
    async with client.realtime.connect(model=MODEL) as session:
        check(await turn(session))


failed = 0
for session in (plain, lambda: asyncio.run(plain_async()), lambda: asyncio.run(azure())):
    try:
        session()
        print("ok      python", flush=True)
    except Exception as error:
        failed += 1
        print(f"FAILED  python {type(error).__name__}: {error}", flush=True)
sys.exit(1 if failed else 0)
