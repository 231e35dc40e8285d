// All that outlives one Provider object: records, clients, keys, counters, faults, settings.

import { createRecords } from './records.mjs';
import { createClients } from './clients.mjs';
import { generateKeys } from './keys.mjs';
import { createCounters } from './counters.mjs';
import { createFaults } from './faults.mjs';

const seconds = (value, otherwise) => (value ? Number(value) : otherwise);

export async function createState(issuer, env) {
  return {
    issuer,
    records: createRecords(),
    clients: createClients(env),
    keys: await generateKeys(),
    counters: createCounters(),
    faults: createFaults(),
    autoLogin: env.AUTO_LOGIN || undefined,
    // Code challenges of requests that asked for `offline_access`; see provider.mjs.
    offline: new Set(),
    claimsOnlyAtUserinfo: env.CLAIMS_IN === 'userinfo',
    ttl: {
      accessToken: seconds(env.ACCESS_TOKEN_TTL, 3600),
      idToken: seconds(env.ID_TOKEN_TTL, 3600),
      refreshToken: seconds(env.REFRESH_TOKEN_TTL, 86400),
    },
  };
}
