"""Drives a gateway with the official Python SDK, as OpenAI's client and as Azure's.

    check.py BASE_URL AZURE_ENDPOINT API_KEY     (or the same names from the environment)

One line per check; exit 1 when one failed.
"""
import os
import sys

from openai import AuthenticationError, AzureOpenAI, NotFoundError, OpenAI

BASE_URL, AZURE_ENDPOINT, API_KEY = (
    sys.argv[1:4] if len(sys.argv) > 3 else [os.environ[name] for name in ("BASE_URL", "AZURE_ENDPOINT", "API_KEY")]
)
CHAT, EMBEDDING = "gpt-4o-mini", "text-embedding-3-small"
HELLO = [{"role": "user", "content": "Say hello."}]


def openai(key=API_KEY):
    # Every answer is held against OpenAI's own types; Azure's shapes would not pass.
    return OpenAI(base_url=BASE_URL, api_key=key, max_retries=0, timeout=30, _strict_response_validation=True)


def azure(key=API_KEY):
    return AzureOpenAI(azure_endpoint=AZURE_ENDPOINT, api_key=key, api_version="2024-10-21", max_retries=0, timeout=30)


def plain_chat(client):
    answer = client().chat.completions.create(model=CHAT, messages=HELLO)
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason == "stop", answer
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer.usage
    assert answer._request_id, "no x-request-id"
    assert client is azure or answer.model == CHAT, answer.model


def streamed_chat(client):
    chunks = list(client().chat.completions.create(model=CHAT, messages=HELLO, stream=True))
    shaped = [c.model == CHAT and c.id and all(choice.delta is not None for choice in c.choices) for c in chunks]
    assert client is azure or (all(shaped) and all(c.choices for c in chunks)), chunks
    assert client is openai or not chunks[0].choices, chunks[0]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop", chunks[-1]
    assert not any(c.usage for c in chunks), "usage that was not asked for"


def streamed_chat_with_usage(client):
    asked = {"include_usage": True}
    chunks = list(client().chat.completions.create(model=CHAT, messages=HELLO, stream=True, stream_options=asked))
    used = [c.usage for c in chunks if c.usage]
    assert len(used) == 1 and used[0].completion_tokens > 0, used


def embeddings(client):
    answer = client().embeddings.create(model=EMBEDDING, input=["one", "two"])
    vectors = [item.embedding for item in answer.data]
    assert len(vectors) == 2 and all(isinstance(x, float) for v in vectors for x in v) and len(vectors[0]) > 1, vectors
    plain = client().embeddings.create(model=EMBEDDING, input="one", encoding_format="float").data[0].embedding
    assert len(plain) == len(vectors[0]), (len(plain), len(vectors[0]))


def plain_response(client):
    answer = client().responses.create(model=CHAT, input="Say hello.")
    assert answer.output_text and answer.status == "completed", answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage
    again = client().responses.retrieve(answer.id)
    assert again.output_text == answer.output_text, again
    items = list(client().responses.input_items.list(answer.id))
    assert items[0].content[0].text == "Say hello.", items
    following = client().responses.create(model=CHAT, input="And now?", previous_response_id=answer.id)
    assert following.usage.input_tokens > answer.usage.input_tokens, following.usage
    client().responses.delete(answer.id)
    try:
        client().responses.retrieve(answer.id)
    except NotFoundError as error:
        assert error.code == "response_not_found", error.body
        return
    raise AssertionError("a deleted response was found")


def streamed_response(client):
    events = list(client().responses.create(model=CHAT, input="Say hello.", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed", events[-1]
    assert text == events[-1].response.output_text, text
    assert client().responses.retrieve(events[-1].response.id).output_text == text
    with client().responses.stream(model=CHAT, input="Say hello.") as stream:
        assert stream.get_final_response().output_text


def models(client):
    names = {model.id for model in client().models.list()}
    assert {CHAT, EMBEDDING} <= names, names
    assert client().models.retrieve(CHAT).id == CHAT


def wrong_key(client):
    try:
        client("sk-gw-wrong").chat.completions.create(model=CHAT, messages=HELLO)
    except AuthenticationError as error:
        assert error.status_code == 401 and error.code == "invalid_api_key", error.body
        return
    raise AssertionError("a wrong key was taken")


def unknown_model(client):
    try:
        client().chat.completions.create(model="gpt-unheard-of", messages=HELLO)
    except NotFoundError as error:
        assert error.status_code == 404 and error.code == "model_not_found", error.body
        return
    raise AssertionError("an unknown model was served")


def early_close(client):
    one = client()
    with one.chat.completions.create(model=CHAT, messages=HELLO, stream=True) as stream:
        next(iter(stream))
    assert one.chat.completions.create(model=CHAT, messages=HELLO).choices


CHECKS = [
    plain_chat, streamed_chat, streamed_chat_with_usage, embeddings, plain_response, streamed_response, models, wrong_key,
    unknown_model, early_close,
]
failed = 0
for client in (openai, azure):
    for check in CHECKS:
        try:
            check(client)
            print(f"ok      python {client.__name__} {check.__name__}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  python {client.__name__} {check.__name__}: {type(error).__name__}: {error}", flush=True)
sys.exit(1 if failed else 0)
