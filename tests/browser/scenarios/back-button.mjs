import { assert, choose, expectDeepLink, expectSignedInAs, pageName, signIn } from '../lib.mjs';

export const title = 'back after signing in: no error page of ours, still signed in, also if one chooses again';

const TARGET = '/deep/link?back=1';
const NEVER = ['restart', 'provider-error', 'bad-request', 'unavailable', 'no-cookie', 'forbidden'];

export async function run({ base, newPerson }) {
  const page = await (await newPerson()).newPage();
  await signIn(page, base, TARGET, 'alice');
  await expectDeepLink(page, base, TARGET);

  await page.goBack({ waitUntil: 'domcontentloaded' });
  const back = await pageName(page);
  assert(!NEVER.includes(back), `back leads to our page ${back}`);

  // The provider's page again: whoever clicks there brings back a login that is over.
  let again;
  if (back === 'chooser') {
    again = await choose(page, 'alice');
    assert(!NEVER.includes(again), `choosing again after back leads to our page ${again}`);
  }
  const shown = await expectSignedInAs(page, base, 'alice');
  return { back, again, shown };
}
