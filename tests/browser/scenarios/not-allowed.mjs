import { assert, choose, clickThrough, expectPage, open, same, watch } from '../lib.mjs';
import { camera } from './screenshots.mjs';

export const title = 'gateway lets none of the people in: the page says who is signed in and offers another account';

export const needs = ({ upstream }) => (
  upstream === 'closed' ? undefined : 'needs a gateway with --allow-email-domain other.example, and --upstream closed');

export async function run({ base, out, newPerson }) {
  const { shoot, shots, tooWide } = camera(out);
  const page = await (await newPerson()).newPage();
  const { trips } = watch(page, base);
  const statuses = [];
  page.on('response', (response) => response.request().isNavigationRequest() && statuses.push(response.status()));
  for (const [nth, user] of ['alice', 'bob'].entries()) {
    if (nth === 0) await open(page, base, '/graph');
    else await clickThrough(page, '[data-action="switch"]');
    await expectPage(page, 'chooser');
    await choose(page, user);
    await expectPage(page, 'not-allowed');
    same(statuses.at(-1), 403, 'status of the page');
    const text = await page.locator('main').innerText();
    assert(text.includes(`${user}@example.com`), `the page does not say that ${user} is signed in: ${text}`);
    if (nth === 0) await shoot(page, 'not-allowed');
  }
  same(trips.length, 2, 'trips to the provider');
  same(trips[1].searchParams.get('prompt'), 'select_account', 'prompt of another account');
  return { shots, wider_than_390: tooWide };
}
