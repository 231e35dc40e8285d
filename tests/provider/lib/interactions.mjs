// Signing in: one page with a button for each person, and no page for consent.

import { chooser, failure } from './pages.mjs';
import { isPerson } from './accounts.mjs';

const ROUTE = /^\/interaction\/[\w-]+$/;

export const interactionUrl = (_ctx, { uid }) => `/interaction/${uid}`;

export function interactions(provider, state) {
  return async (ctx, next) => {
    if (!ROUTE.test(ctx.path)) return next();
    const details = await provider.interactionDetails(ctx.req, ctx.res).catch((error) => error);
    if (details instanceof Error) {
      // Met after "back": the login was finished, its page is over.
      ctx.status = 400;
      ctx.type = 'html';
      ctx.body = failure(details);
      return undefined;
    }
    const { prompt, params } = details;
    const finish = (result) => {
      ctx.respond = false;
      return provider.interactionFinished(ctx.req, ctx.res, result);
    };

    // Asked for with `prompt=consent`, after the login: agreed at once, the grant is made by loadExistingGrant.
    if (prompt.name === 'consent') return finish({ consent: {} });

    const user = ctx.method === 'POST' ? await chosen(ctx.req) : state.autoLogin;
    if (user === undefined) {
      state.counters.add('interactions');
      ctx.type = 'html';
      ctx.set('cache-control', 'no-store');
      ctx.body = chooser(ctx.path, params.client_id);
      return undefined;
    }
    if (user === 'deny') return finish({ error: 'access_denied', error_description: 'refused by the person' });
    if (!isPerson(user)) return ctx.throw(400, 'nobody of that name here');
    state.counters.add('logins');
    return finish({ [prompt.name]: {}, login: { accountId: user } });
  };
}

async function chosen(req) {
  let body = '';
  for await (const part of req) {
    body += part;
    if (body.length > 4096) break;
  }
  return new URLSearchParams(body).get('user') ?? '';
}
