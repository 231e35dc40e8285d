// One oidc-provider over the state: its configuration, and what stands before its routes.

import { randomBytes } from 'node:crypto';
import Provider, { interactionPolicy } from 'oidc-provider';

import { findAccount } from './accounts.mjs';
import { ENDPOINTS } from './faults.mjs';
import { interactions, interactionUrl } from './interactions.mjs';
import * as pages from './pages.mjs';

/** The same for every rebuild: a new key would make the cookies of people signed in unreadable. */
const COOKIE_KEYS = [randomBytes(32).toString('base64url')];

export function createProvider(state) {
  const provider = new Provider(state.issuer, configuration(state));
  provider.use(watch(state));
  provider.use(interactions(provider, state));
  provider.on('backchannel.success', () => state.counters.add('backchannel_sent'));
  provider.on('backchannel.error', () => state.counters.add('backchannel_failed'));
  provider.on('server_error', (_ctx, error) => console.error(error));
  return provider;
}

/** Counts, delays and fails requests before oidc-provider sees them. */
function watch({ counters, faults, offline }) {
  return async (ctx, next) => {
    const endpoint = ENDPOINTS.get(ctx.path);
    if (!endpoint) return next();
    counters.add(endpoint);
    if (endpoint === 'authorize' && String(ctx.query.scope).split(' ').includes('offline_access')) {
      offline.add(ctx.query.code_challenge);
    }
    await faults.wait(endpoint);
    const fault = faults.next(endpoint);
    if (!fault || fault.after) {
      await next();
      const params = ctx.oidc?.params;
      if (endpoint === 'token' && params) counters.token(params, ctx.status);
    }
    if (fault) {
      counters.add('faults');
      ctx.status = fault.status;
      ctx.body = { error: 'server_error', error_description: 'ordered by the test' };
    }
    return undefined;
  };
}

function configuration({ clients, keys, offline, records, ttl, claimsOnlyAtUserinfo }) {
  const off = { enabled: false };
  // Whoever asks for `offline_access` gets a refresh token, as at most providers. oidc-provider drops the
  // scope unless `prompt=consent` came along, so the request itself is remembered by its code challenge.
  const isOffline = (source) => source.scopes.has('offline_access') || offline.has(source.codeChallenge);

  return {
    adapter: records,
    clients: structuredClone(clients),
    jwks: { keys: structuredClone(keys) },
    cookies: { keys: COOKIE_KEYS },
    findAccount,
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access'],
    claims: {
      openid: ['sub'],
      profile: ['name', 'preferred_username'],
      email: ['email', 'email_verified'],
      groups: ['groups'],
    },
    // false: claims are in the ID token and at userinfo, as at most providers.
    conformIdTokenClaims: claimsOnlyAtUserinfo,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    clientDefaults: { id_token_signed_response_alg: 'RS256' },
    interactions: { url: interactionUrl, policy: policy() },
    loadExistingGrant: grantAll,
    issueRefreshToken: async (_ctx, client, code) => client.grantTypeAllowed('refresh_token') && isOffline(code),
    expiresWithSession: async (_ctx, code) => !isOffline(code),
    rotateRefreshToken: true,
    ttl: {
      AccessToken: ttl.accessToken,
      AuthorizationCode: 60,
      Grant: 14 * 86400,
      IdToken: ttl.idToken,
      Interaction: 3600,
      RefreshToken: ttl.refreshToken,
      Session: 14 * 86400,
    },
    features: {
      devInteractions: off,
      revocation: { enabled: true, allowedPolicy: async (_ctx, client, token) => token.clientId === client.clientId },
      userinfo: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: async (ctx, form) => { ctx.body = pages.logout(form); },
        postLogoutSuccessSource: async (ctx) => { ctx.body = pages.signedOut(); },
      },
    },
    renderError: async (ctx, out) => {
      ctx.type = 'html';
      ctx.body = pages.failure(out);
    },
    // Its own dispatcher refuses loopback addresses, where the tests' back-channel endpoints are.
    fetch: (url, { dispatcher: _refusesLoopback, ...options }) => globalThis.fetch(url, options),
  };
}

/** `select_account` is what "use another account" sends; it shows the same page as `login`. */
function policy() {
  const prompts = interactionPolicy.base();
  prompts.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }), 0);
  return prompts;
}

/** No consent page: everything asked for is granted to whoever is signed in. */
async function grantAll(ctx) {
  const { client, provider, session, params } = ctx.oidc;
  const existing = session.grantIdFor(client.clientId);
  const grant = (existing && await provider.Grant.find(existing))
    || new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  grant.addOIDCClaims([...ctx.oidc.requestParamClaims]);
  await grant.save();
  return grant;
}
