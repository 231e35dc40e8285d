import { assert, expectPage, open, ourCookies, signIn, watch } from '../lib.mjs';

export const title = 'the open page: no cookie, no provider, with and without a session';

export async function run({ base, newPerson }) {
  const stranger = await newPerson();
  const page = await stranger.newPage();
  const { trips } = watch(page, base);
  await open(page, base, '/public');
  await expectPage(page, 'public');
  assert.equal(page.url(), `${base}/public`);
  assert.deepEqual(await ourCookies(stranger), [], 'cookies on an open page');
  assert.equal(trips.length, 0, 'trips to the provider');

  await signIn(page, base, '/', 'alice');
  await expectPage(page, 'dashboard');
  const response = await page.goto(`${base}/public`);
  await expectPage(page, 'public');
  assert.equal(await response.headerValue('set-cookie'), null, 'Set-Cookie on an open page');
  return { cookies: 0 };
}
