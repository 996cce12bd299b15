// Holds realtime sessions through a gateway: with a WebSocket as a browser has it, whose key can only be a subprotocol or
// in the address, and with the official Node SDK.
//
//     realtime.mjs HOST:PORT API_KEY
//
// One line per session; exit 1 when one failed. Each has one response.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';

const [address, key] = process.argv.slice(2);
const path = '/v1/realtime?model=gpt-realtime';

const browser = (url, protocols, answered) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols);
    const kinds = [];
    socket.onopen = () => {
      assert.equal(socket.protocol, answered);
      socket.send(JSON.stringify({ type: 'response.create' }));
    };
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      kinds.push(event.type);
      if (event.type === 'response.done') socket.close(1000, 'done');
    };
    socket.onerror = () => reject(new Error('the socket failed'));
    socket.onclose = ({ code, wasClean }) => {
      try {
        assert.deepEqual([code, wasClean, kinds[0]], [1000, true, 'session.created']);
        assert.ok(kinds.includes('response.done'));
        resolve();
      } catch (error) {
        reject(error);
      }
    };
  });

// The SDK speaks TLS only, and the gateway leaves that to what stands in front of it.
const Secure = globalThis.WebSocket;
globalThis.WebSocket = class extends Secure {
  constructor(url, ...rest) {
    super(String(url).replace(/^wss:/, 'ws:'), ...rest);
  }
};

const sdk = () =>
  new Promise((resolve, reject) => {
    const client = new OpenAI({ baseURL: `http://${address}/v1`, apiKey: key });
    const session = new OpenAIRealtimeWebSocket({ model: 'gpt-realtime', dangerouslyAllowBrowser: true }, client);
    session.socket.addEventListener('open', () => session.send({ type: 'response.create' }));
    session.on('error', reject);
    session.on('response.done', ({ response }) => {
      session.close();
      response.usage.output_tokens > 0 ? resolve() : reject(new Error('no usage'));
    });
  });

const sessions = {
  subprotocol: () => browser(`ws://${address}${path}`, ['realtime', `openai-insecure-api-key.${key}`], 'realtime'),
  address: () => browser(`ws://${address}${path}&api-key=${key}`, [], ''),
  sdk,
};
let failed = 0;
for (const [name, session] of Object.entries(sessions)) {
  try {
    await session();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error}`);
  }
}
process.exit(failed ? 1 : 0);
