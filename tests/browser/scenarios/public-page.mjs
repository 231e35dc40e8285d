import { expectPage, open, ourCookies, same, signIn, watch } from '../lib.mjs';

export const title = 'the open page: no cookie, no provider, with and without a session';

export async function run({ base, newPerson }) {
  const stranger = await newPerson();
  const page = await stranger.newPage();
  const { trips } = watch(page, base);
  await open(page, base, '/public');
  await expectPage(page, 'public');
  same(page.url(), `${base}/public`, 'the address');
  same(await ourCookies(stranger), [], 'cookies on an open page');
  same(trips.length, 0, 'trips to the provider');

  await signIn(page, base, '/', 'alice');
  await expectPage(page, 'dashboard');
  const response = await page.goto(`${base}/public`);
  await expectPage(page, 'public');
  same(await response.headerValue('set-cookie'), null, 'Set-Cookie on an open page');
  return { cookies: 0 };
}
