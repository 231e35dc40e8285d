// The control server: how a test looks behind the provider and makes it misbehave. Loopback only.

import { addAddresses } from './clients.mjs';
import { generateKeys } from './keys.mjs';

export function createControl(state, rebuild) {
  const routes = {
    'GET /counts': () => state.counters.read(),

    'GET /keys': () => state.keys.map(({ alg, kid }) => ({ alg, kid })),

    'GET /clients': () => state.clients,

    'POST /clients/redirects': (_query, body) => {
      const chosen = addAddresses(state.clients, body);
      if (!chosen) return refuse('no such client');
      rebuild();
      return chosen;
    },

    'POST /rotate-keys': async (query) => {
      state.keys = [...await generateKeys(), ...(query.get('keep') === '1' ? state.keys : [])];
      rebuild();
      return routes['GET /keys']();
    },

    'POST /delay': (query) => {
      const known = state.faults.delay(query.get('endpoint') ?? 'token', Number(query.get('ms') ?? 0));
      return known ? {} : refuse('no such endpoint');
    },

    'POST /fail': (query) => {
      const known = state.faults.fail(
        query.get('endpoint') ?? 'token',
        Number(query.get('status') ?? 500),
        Number(query.get('times') ?? 1),
        query.get('after') === '1',
      );
      return known ? {} : refuse('no such endpoint');
    },

    'POST /auto-login': (query) => {
      state.autoLogin = query.get('user') || undefined;
      return {};
    },

    'POST /reset': () => {
      state.counters.reset();
      state.faults.clear();
      return {};
    },
  };

  return async (req, res) => {
    const { pathname, searchParams } = new URL(req.url, 'http://control');
    const route = routes[`${req.method} ${pathname}`];
    const answer = (status, value) => res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (!route) return answer(404, { error: 'no such route' });
    try {
      return answer(200, await route(searchParams, await json(req)));
    } catch (error) {
      return answer(400, { error: error.message });
    }
  };
}

function refuse(reason) {
  throw new Error(reason);
}

async function json(req) {
  let body = '';
  for await (const part of req) body += part;
  return body ? JSON.parse(body) : {};
}
