// Holds conversations through a gateway with the official Node SDK, over its connection to the Responses API, plain and
// as its Azure client opens it.
//
//     responses_socket.mjs HOST:PORT API_KEY
//
// One line per client; exit 1 when one failed. Each has a beginning without an answer, four responses and a refusal.
import assert from 'node:assert/strict';
import OpenAI, { AzureOpenAI } from 'openai';
import { ResponsesWS } from 'openai/resources/responses/ws';

const [address, key] = process.argv.slice(2);
const options = { apiKey: key, maxRetries: 0 };
const model = 'gpt-4o-mini';

// Of one `response.create`, up to the event that ends it.
async function turn(messages, session, params) {
  session.send({ type: 'response.create', model, ...params });
  const events = [];
  for (;;) {
    const { value, done } = await messages.next();
    assert.ok(!done && value.type !== 'close', 'the session ended');
    // What the SDK takes for an error comes as one, and not among the messages.
    if (value.type === 'error') return [...events, value.error.error];
    if (value.type !== 'message') continue;
    events.push(value.message);
    if (value.message.type === 'response.completed') return events;
  }
}

function answered(events, params) {
  const kinds = events.map((event) => event.type);
  assert.deepEqual([kinds[0], kinds.at(-1)], ['response.created', 'response.completed']);
  const { response } = events.at(-1);
  assert.equal(response.status, 'completed');
  if (params.generate !== false) {
    assert.ok(response.usage.output_tokens > 0 && kinds.includes('response.output_text.delta'), kinds.join());
  }
  return response.id;
}

async function converse(client) {
  const session = new ResponsesWS(client);
  session.on('error', () => {});
  const messages = session.stream()[Symbol.asyncIterator]();
  let params = { generate: false, store: false, input: 'My name is Ada.' };
  let previous = answered(await turn(messages, session, params), params);
  for (const store of [false, false, true, true]) {
    params = { store, input: 'And now?', previous_response_id: previous };
    previous = answered(await turn(messages, session, params), params);
  }
  const [refusal] = await turn(messages, session, { input: 'x', previous_response_id: 'resp_unknown' });
  assert.deepEqual([refusal.type, refusal.error.code], ['error', 'previous_response_not_found']);
  const closed = new Promise((resolve) => session.on('close', resolve));
  session.close({ code: 1000, reason: 'done' });
  assert.equal(await closed, 1000);
}

const clients = {
  plain: () => new OpenAI({ baseURL: `http://${address}/v1`, ...options }),
  azure: () => new AzureOpenAI({ endpoint: `http://${address}`, apiVersion: '2025-04-01-preview', ...options }),
};
let failed = 0;
for (const [name, client] of Object.entries(clients)) {
  try {
    await converse(client());
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
