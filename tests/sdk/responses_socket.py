"""Holds conversations through a gateway with the official Python SDK, over its connection to the Responses API.

    responses_socket.py HOST:PORT API_KEY

One line per client; exit 1 when one failed. Each has a beginning without an answer and four responses.
"""

import asyncio
import sys

from openai import AsyncAzureOpenAI, AsyncOpenAI, OpenAI

address, key = sys.argv[1:]
MODEL = "gpt-4o-mini"
options = {"max_retries": 0, "timeout": 30}


def turns():
    """What is sent; takes what is answered."""
    previous = yield {"generate": False, "store": False, "input": "My name is Ada."}
    for store in (False, False, True, True):
        previous = yield {"store": store, "input": "And now?", "previous_response_id": previous}


def check(events, params):
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    response = events[-1].response
    assert response.status == "completed" and response.id.startswith("resp_"), response
    if params.get("generate", True):
        assert response.usage.output_tokens > 0 and response.output_text, response
        assert "response.output_text.delta" in kinds, kinds
    return response.id


def plain():
    client = OpenAI(base_url=f"http://{address}/v1", api_key=key, **options)
    with client.responses.connect() as connection:
        script = turns()
        params = next(script)
        while True:
            connection.response.create(model=MODEL, **params)
            events = []
            for event in connection:
                events.append(event)
                if event.type in ("response.completed", "error"):
                    break
            try:
                params = script.send(check(events, params))
            except StopIteration:
                return


async def converse(client):
    async with client.responses.connect() as connection:
        script = turns()
        params = next(script)
        while True:
            await connection.response.create(model=MODEL, **params)
            events = []
            async for event in connection:
                events.append(event)
                if event.type in ("response.completed", "error"):
                    break
            try:
                params = script.send(check(events, params))
            except StopIteration:
                return


def plain_async():
    asyncio.run(converse(AsyncOpenAI(base_url=f"http://{address}/v1", api_key=key, **options)))


def azure():
    client = AsyncAzureOpenAI(
        azure_endpoint=f"http://{address}",
        websocket_base_url=f"ws://{address}/openai",
        api_version="2025-04-01-preview",
        api_key=key,
        **options,
    )
    asyncio.run(converse(client))


failed = 0
for hold in (plain, plain_async, azure):
    try:
        hold()
        print("ok      python", flush=True)
    except Exception as error:
        failed += 1
        print(f"FAILED  python {type(error).__name__}: {error}", flush=True)
sys.exit(1 if failed else 0)
