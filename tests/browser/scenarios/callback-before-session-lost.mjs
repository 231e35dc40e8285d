import {
  assert, choose, expectPage, expectSignedInAs, open, pageName, same, signIn, stealCallback,
} from '../lib.mjs';

export const title = "login CSRF: another person's callback never signs one in as that person";

const TARGET = '/deep/link?from=mallory';

export async function run({ base, newPerson }) {
  const stolen = async () => stealCallback(await (await newPerson()).newPage(), base, TARGET, 'mallory');

  return {
    nobody: await asNobody(await (await newPerson()).newPage(), base, await stolen()),
    waiting: await whileWaiting(await (await newPerson()).newPage(), base, await stolen()),
    signed_in: await whileSignedIn(await (await newPerson()).newPage(), base, await stolen()),
  };
}

/** A browser that never was here. */
async function asNobody(page, base, callback) {
  const ended = await open(page, base, callback);
  await expectNotMallory(page, base);
  await open(page, base, '/');
  await expectPage(page, 'chooser');
  await choose(page, 'alice');
  await expectSignedInAs(page, base, 'alice');
  return ended;
}

/** A browser with a login of its own under way. */
async function whileWaiting(page, base, callback) {
  await open(page, base, '/deep/link?own=1');
  await expectPage(page, 'chooser');
  const ended = await open(page, base, callback);
  await expectNotMallory(page, base);
  return ended;
}

/** A browser that is signed in. */
async function whileSignedIn(page, base, callback) {
  await signIn(page, base, '/', 'alice');
  await expectSignedInAs(page, base, 'alice');
  await open(page, base, callback);
  const ended = await pageName(page);
  await expectSignedInAs(page, base, 'alice');
  return ended;
}

async function expectNotMallory(page, base) {
  const answer = await page.context().request.get(`${base}/auth/session`, { maxRedirects: 0, failOnStatusCode: false });
  assert(!(await answer.text()).toLowerCase().includes('mallory'), 'login CSRF: signed in as mallory');
  const me = await page.context().request.get(`${base}/api/me`, { maxRedirects: 0, failOnStatusCode: false });
  same(me.status(), 401, 'status of /api/me for a browser nobody signed in with');
}
