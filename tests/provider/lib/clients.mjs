// One client for each way to authenticate and each signing algorithm the crate has to take.

import { randomBytes } from 'node:crypto';

const list = (text) => (text ? text.split(',').map((part) => part.trim()).filter(Boolean) : []);
const secret = () => randomBytes(24).toString('base64url');

const SHAPES = [
  ['dashboard', 'client_secret_basic', 'RS256'],
  ['dashboard-post', 'client_secret_post', 'RS256'],
  ['dashboard-public', 'none', 'RS256'],
  ['dashboard-es256', 'client_secret_basic', 'ES256'],
  ['dashboard-eddsa', 'client_secret_basic', 'EdDSA'],
];

export function createClients(env) {
  // Shared by all clients: a test that reads one secret can use each of them.
  const client_secret = env.CLIENT_SECRET || secret();
  return SHAPES.map(([client_id, token_endpoint_auth_method, id_token_signed_response_alg]) => ({
    client_id,
    ...(token_endpoint_auth_method === 'none' ? {} : { client_secret }),
    token_endpoint_auth_method,
    id_token_signed_response_alg,
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: list(env.REDIRECT_URIS),
    post_logout_redirect_uris: list(env.POST_LOGOUT_URIS),
    // Logout tokens carry `sid` beside `sub`.
    backchannel_logout_session_required: true,
    ...(env.BACKCHANNEL_LOGOUT_URI ? { backchannel_logout_uri: env.BACKCHANNEL_LOGOUT_URI } : {}),
  }));
}

/** Adds addresses to the client named, or to all of them; other members replace theirs. Unknown client: undefined. */
export function addAddresses(clients, { client_id, redirect_uris = [], post_logout_redirect_uris = [], ...others }) {
  const chosen = clients.filter((client) => client_id === undefined || client.client_id === client_id);
  for (const client of chosen) {
    client.redirect_uris = [...new Set([...client.redirect_uris, ...redirect_uris])];
    client.post_logout_redirect_uris = [...new Set([...client.post_logout_redirect_uris, ...post_logout_redirect_uris])];
    Object.assign(client, others);
  }
  return chosen.length ? chosen : undefined;
}
