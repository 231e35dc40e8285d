import { assert, expectPage, open, ourCookies, same, signIn, watch } from '../lib.mjs';

export const title = 'a fetch without session gets 401 JSON with login_url, never a redirect or a cookie';

export async function run({ base, newPerson }) {
  const stranger = await newPerson();
  const page = await stranger.newPage();
  const { trips } = watch(page, base);
  await open(page, base, '/public');
  const answer = await page.evaluate(async () => {
    const response = await fetch('/api/me');
    return { status: response.status, redirected: response.redirected, type: response.headers.get('content-type'), body: await response.text() };
  });
  same(answer.status, 401, 'status of a fetch without session');
  assert(!answer.redirected, 'the fetch was redirected');
  assert.match(answer.type, /json/, 'content type of the denial');
  const loginUrl = JSON.parse(answer.body).login_url;
  assert(loginUrl, 'login_url in the denial');
  same(await ourCookies(stranger), [], 'cookies after a denied fetch');
  same(trips.length, 0, 'trips to the provider');

  // The same by the dashboard's own button.
  const visitor = await (await newPerson()).newPage();
  await signIn(visitor, base, '/', 'alice');
  await expectPage(visitor, 'dashboard');
  await visitor.getByTestId('try-fetch').click();
  const shown = visitor.getByTestId('fetch-result').filter({ hasText: 'login_url' });
  await shown.waitFor().catch(() => { throw new Error('the button try-fetch shows no denial with login_url'); });
  return { denial: JSON.parse(answer.body), shown: (await shown.textContent()).trim() };
}
