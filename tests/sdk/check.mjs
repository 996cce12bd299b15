// Drives a gateway with the official Node SDK, as OpenAI's client and as Azure's.
//
//     check.mjs BASE_URL AZURE_ENDPOINT API_KEY     (or the same names from the environment)
//
// One line per check; exit 1 when one failed.
import assert from 'node:assert/strict';
import OpenAI, { AuthenticationError, AzureOpenAI, NotFoundError } from 'openai';

const { env, argv } = process;
const [baseURL, endpoint, apiKey] =
  argv.length > 4 ? argv.slice(2) : [env.BASE_URL, env.AZURE_ENDPOINT, env.API_KEY];
const chat = 'gpt-4o-mini';
const embedding = 'text-embedding-3-small';
const messages = [{ role: 'user', content: 'Say hello.' }];
const options = { maxRetries: 0, timeout: 30_000 };

const clients = {
  openai: (key = apiKey) => new OpenAI({ baseURL, apiKey: key, ...options }),
  azure: (key = apiKey) => new AzureOpenAI({ endpoint, apiKey: key, apiVersion: '2024-10-21', ...options }),
};

const collect = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};

const checks = {
  async plain_chat(client) {
    const answer = await client().chat.completions.create({ model: chat, messages });
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.choices[0].finish_reason, 'stop');
    assert.ok(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
    assert.ok(answer._request_id, 'no x-request-id');
    assert.ok(client === clients.azure || answer.model === chat, answer.model);
  },

  async streamed_chat(client) {
    const chunks = await collect(await client().chat.completions.create({ model: chat, messages, stream: true }));
    const told = chunks.filter((chunk) => chunk.choices.length);
    if (client === clients.openai) {
      assert.ok(chunks.every((chunk) => chunk.choices.length && chunk.model === chat && chunk.id), 'Azure shapes');
      assert.ok(chunks.every((chunk) => chunk.choices.every((choice) => choice.delta)), 'a choice without delta');
    } else {
      assert.equal(chunks[0].choices.length, 0, 'Azure begins with a chunk without choices');
    }
    assert.ok(told.map((chunk) => chunk.choices[0].delta.content ?? '').join(''));
    assert.equal(told.at(-1).choices[0].finish_reason, 'stop');
    assert.ok(!chunks.some((chunk) => chunk.usage), 'usage that was not asked for');
  },

  async streamed_chat_with_usage(client) {
    const stream = await client().chat.completions.create({
      model: chat, messages, stream: true, stream_options: { include_usage: true },
    });
    const used = (await collect(stream)).filter((chunk) => chunk.usage);
    assert.equal(used.length, 1);
    assert.ok(used[0].usage.completion_tokens > 0);
  },

  async plain_response(client) {
    const answer = await client().responses.create({ model: chat, input: 'Say hello.' });
    assert.ok(answer.output_text);
    assert.equal(answer.status, 'completed');
    assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
    assert.equal((await client().responses.retrieve(answer.id)).output_text, answer.output_text);
    const items = await client().responses.inputItems.list(answer.id);
    assert.equal(items.data[0].content[0].text, 'Say hello.');
    const following = await client().responses.create({
      model: chat, input: 'And now?', previous_response_id: answer.id,
    });
    assert.ok(following.usage.input_tokens > answer.usage.input_tokens);
    await client().responses.delete(answer.id);
    await assert.rejects(client().responses.retrieve(answer.id), (error) => {
      assert.ok(error instanceof NotFoundError);
      assert.equal(error.code, 'response_not_found');
      return true;
    });
  },

  async streamed_response(client) {
    const events = await collect(await client().responses.create({ model: chat, input: 'Say hello.', stream: true }));
    const deltas = events.filter((event) => event.type === 'response.output_text.delta');
    const text = deltas.map((event) => event.delta).join('');
    assert.equal(events.at(-1).type, 'response.completed');
    assert.equal((await client().responses.retrieve(events.at(-1).response.id)).output_text, text);
  },

  async embeddings(client) {
    const answer = await client().embeddings.create({ model: embedding, input: ['one', 'two'] });
    assert.equal(answer.data.length, 2);
    assert.ok(answer.data[0].embedding.length > 1 && answer.data[0].embedding.every(Number.isFinite));
    const plain = await client().embeddings.create({ model: embedding, input: 'one', encoding_format: 'float' });
    assert.equal(plain.data[0].embedding.length, answer.data[0].embedding.length);
  },

  async models(client) {
    const names = (await collect(await client().models.list())).map((model) => model.id);
    assert.ok(names.includes(chat) && names.includes(embedding), names.join());
    assert.equal((await client().models.retrieve(chat)).id, chat);
  },

  async wrong_key(client) {
    await assert.rejects(client('sk-gw-wrong').chat.completions.create({ model: chat, messages }), (error) => {
      assert.ok(error instanceof AuthenticationError, String(error));
      assert.deepEqual([error.status, error.code], [401, 'invalid_api_key']);
      return true;
    });
  },

  async unknown_model(client) {
    await assert.rejects(client().chat.completions.create({ model: 'gpt-unheard-of', messages }), (error) => {
      assert.ok(error instanceof NotFoundError, String(error));
      assert.deepEqual([error.status, error.code], [404, 'model_not_found']);
      return true;
    });
  },

  async early_close(client) {
    const one = client();
    for await (const chunk of await one.chat.completions.create({ model: chat, messages, stream: true })) {
      assert.ok(chunk);
      break;
    }
    assert.ok((await one.chat.completions.create({ model: chat, messages })).choices.length);
  },
};

let failed = 0;
for (const [name, client] of Object.entries(clients)) {
  for (const [check, run] of Object.entries(checks)) {
    try {
      await run(client);
      console.log(`ok      node ${name} ${check}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  node ${name} ${check}: ${error}`);
    }
  }
}
process.exit(failed ? 1 : 0);
