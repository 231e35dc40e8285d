import { expectPage, open, same, signIn, signOut } from '../lib.mjs';

export const title = 'sign out from a page with Referrer-Policy: no-referrer, which makes Origin null';

export async function run({ base, newPerson }) {
  const page = await (await newPerson()).newPage();
  await signIn(page, base, '/no-referrer', 'alice');

  const posted = page.waitForRequest((request) => request.method() === 'POST' && request.url() === `${base}/auth/logout`);
  const [request, facts] = await Promise.all([posted, signOut(page)]);
  const { origin, 'sec-fetch-site': site, referer } = await request.allHeaders();
  // Without these the scenario would show nothing.
  same(origin, 'null', 'Origin of the form');
  same(site, 'same-origin', 'Sec-Fetch-Site of the form');

  await open(page, base, '/');
  await expectPage(page, 'chooser');
  return { ...facts, origin, sec_fetch_site: site, referer: referer ?? 'none' };
}
