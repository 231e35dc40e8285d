import {
  assert, expectPage, expectSignedInAs, isSession, open, ourCookies, same, signIn, signOut,
} from '../lib.mjs';

export const title = 'sign out here and at the provider; then signing in is asked for again';

export async function run({ base, provider, newPerson }) {
  const person = await newPerson();
  const page = await person.newPage();
  await signIn(page, base, '/', 'alice');
  await expectSignedInAs(page, base, 'alice');

  const facts = await signOut(page);
  if (provider === 'oidc-provider') assert(facts.asked_by_provider, 'the provider was not asked to end its session');
  same((await ourCookies(person)).filter(isSession).length, 0, 'session cookies after signing out');

  await open(page, base, '/');
  await expectPage(page, 'chooser');
  return { ...facts, cookies_left: (await ourCookies(person)).map(({ name }) => name) };
}
