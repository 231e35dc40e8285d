// Starts a real OpenID provider (oidc-provider) on loopback for the tests, says where on stdout, and goes
// away with its parent. See README.md.

import './lib/quiet.mjs';

import http from 'node:http';
import { fileURLToPath } from 'node:url';

import { createState } from './lib/state.mjs';
import { createProvider } from './lib/provider.mjs';
import { createControl } from './lib/control.mjs';

const LOOPBACK = '127.0.0.1';

/** Listens first: the issuer bears the port, and the provider must be built with its issuer. */
function listen(server, port = 0) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, LOOPBACK, () => resolve(`http://${LOOPBACK}:${server.address().port}`));
  });
}

export async function main(env = process.env) {
  let handle = (_req, res) => res.writeHead(503).end();
  const front = http.createServer((req, res) => handle(req, res));
  const issuer = await listen(front, Number(env.PORT ?? 0));

  const state = await createState(issuer, env);
  // A provider keeps its keys from construction on. New keys: a new one over the same records, behind the
  // same listener; requests under way finish on the old one.
  const rebuild = () => {
    handle = createProvider(state).callback();
  };
  rebuild();

  const control = http.createServer(createControl(state, rebuild));
  const controlUrl = await listen(control);

  const [{ client_id, client_secret }] = state.clients;
  process.stdout.write(`${JSON.stringify({ issuer, control: controlUrl, client_id, client_secret })}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  // A parent that was killed closes our stdin whatever else happens to it.
  for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
  process.stdin.resume();
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
  await main();
}
