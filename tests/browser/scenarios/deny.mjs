import {
  choose, clickThrough, expectDeepLink, expectPage, expectSignedInAs, isSession, open, ourCookies, same,
} from '../lib.mjs';

export const title = 'refuse at the provider: a page says so and offers another try, which works';

const TARGET = '/deep/link?deny=%31';

export async function run({ base, newPerson }) {
  const person = await newPerson();
  const page = await person.newPage();
  await open(page, base, TARGET);
  await expectPage(page, 'chooser');

  await choose(page, 'deny');
  await expectPage(page, 'provider-error');
  const says = (await page.locator('h1').first().textContent()).trim();
  same((await ourCookies(person)).filter(isSession).length, 0, 'session cookies after a refusal');

  await clickThrough(page, '[data-action="continue"]');
  await expectPage(page, 'chooser');
  await choose(page, 'alice');
  await expectDeepLink(page, base, TARGET);
  await expectSignedInAs(page, base, 'alice');
  return { says };
}
