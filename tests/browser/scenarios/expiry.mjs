import path from 'node:path';

import { assert, choose, expectDeepLink, expectPage, pageName, same, signIn, watch } from '../lib.mjs';

export const title = 'the session ends in the middle of work: a fetch says so, a link leads over the provider and back';

export const needs = ({ expirySeconds }) => (
  expirySeconds ? undefined : 'needs a dashboard started with --session-absolute N, and --expiry-seconds N here');

export async function run({ base, expirySeconds, newPerson, out }) {
  const page = await (await newPerson()).newPage();
  const { trips } = watch(page, base);
  await signIn(page, base, '/', 'alice');
  await expectPage(page, 'dashboard');
  same(await apiStatus(page).then(({ status }) => status), 200, 'status of a fetch before the end');

  await page.waitForTimeout(expirySeconds * 1000 + 1000);
  const denied = await apiStatus(page);
  same(denied.status, 401, 'status of a fetch after the end');
  assert(denied.body.login_url, 'login_url in the denial');

  await page.screenshot({ path: path.join(out, 'dashboard-ended-light.png'), fullPage: true });

  // A link as it is in the page, but in this tab.
  const link = page.getByTestId('try-second-tab');
  const href = await link.getAttribute('href');
  await link.evaluate((element) => element.removeAttribute('target'));
  await link.click();
  // The provider may know the person still and send back at once.
  const next = page.locator('[data-page="chooser"], [data-testid="deep-link"]').first();
  await next.waitFor({ state: 'attached' }).catch(() => { throw new Error(`after the end a link led to ${page.url()}`); });
  const asked = await page.locator('[data-page="chooser"]').count() > 0 && await pageName(page) === 'chooser';
  if (asked) await choose(page, 'alice');
  await expectDeepLink(page, base, new URL(href, base).href.slice(base.length));
  same(trips.length, 2, 'trips to the provider');
  return { denied: denied.body, asked_again: asked };
}

const apiStatus = (page) => page.evaluate(async () => {
  const response = await fetch('/api/me');
  return { status: response.status, body: await response.json() };
});
