import { createHash } from 'node:crypto';

import {
  assert, choose, expectDeepLink, expectPage, expectSignedInAs, isPending, isSession, open, ourCookies, same, watch,
} from '../lib.mjs';

export const title = 'a deep link, the provider, and back to it; cookies with their attributes';

const TARGET = '/deep/link?x=%26&y=a%2Fb';

export async function run({ base, newPerson }) {
  const person = await newPerson();
  const page = await person.newPage();
  const { trips } = watch(page, base);

  await open(page, base, TARGET);
  await expectPage(page, 'chooser');
  same(trips.length, 1, 'trips to the provider');
  const asked = trips[0].searchParams;
  same(asked.get('code_challenge_method'), 'S256', 'code_challenge_method');
  assert(!asked.has('code_verifier'), 'the verifier went to the provider with the request');

  const waiting = await ourCookies(person);
  same(waiting.filter(isPending).length, 1, 'cookies of a pending login');
  same(waiting.filter(isSession).length, 0, 'session cookies before the login');
  for (const cookie of waiting) {
    expectAttributes(cookie);
    expectNothingReadable(cookie, asked);
  }

  await choose(page, 'alice');
  await expectDeepLink(page, base, TARGET);
  const shown = await expectSignedInAs(page, base, 'alice');

  const kept = await ourCookies(person);
  same(kept.filter(isPending).length, 0, 'cookies of a pending login after success');
  assert(kept.some(isSession), `no session cookie after success, only ${kept.map(({ name }) => name)}`);
  kept.forEach(expectAttributes);
  const readable = await page.evaluate(() => document.cookie);
  assert(!readable.includes('auth_'), 'a script can read our cookies');

  return { shown, pending: waiting.map(describe), kept: kept.map(describe) };
}

function expectAttributes({ name, httpOnly, sameSite, path, secure, domain }) {
  assert(name.startsWith('auth_'), `on http loopback a cookie is called auth_…, not ${name}`);
  assert(httpOnly, `${name} is not HttpOnly`);
  same(sameSite, 'Lax', `SameSite of ${name}`);
  assert(!secure, `${name} is Secure on http`);
  assert(!domain.startsWith('.'), `${name} has a Domain`);
  // The ID token for the provider's logout goes to the logout path only.
  same(path, name.endsWith('-o') ? '/auth/logout' : '/', `Path of ${name}`);
}

/** Neither the state nor anything whose hash is the challenge may lie in a cookie, as text or as bytes. */
function expectNothingReadable({ name, value }, asked) {
  assert(!value.includes(asked.get('state')), `${name} shows the state`);
  assert(!value.includes(asked.get('nonce')), `${name} shows the nonce`);
  const challenge = asked.get('code_challenge');
  const hash = (text) => createHash('sha256').update(text).digest('base64url');
  for (let at = 0; at + 43 <= value.length; at += 1) {
    assert.notEqual(hash(value.slice(at, at + 43)), challenge, `${name} shows the verifier`);
  }
  const bytes = Buffer.from(value, 'base64url');
  for (let at = 0; at + 32 <= bytes.length; at += 1) {
    const window = bytes.subarray(at, at + 32).toString('base64url');
    assert.notEqual(hash(window), challenge, `${name} shows the verifier's bytes`);
  }
}

const describe = ({ name, path, sameSite, httpOnly, value, expires }) => ({
  name, path, sameSite, httpOnly, bytes: name.length + value.length,
  seconds: expires < 0 ? 'session' : Math.round(expires - Date.now() / 1000),
});
