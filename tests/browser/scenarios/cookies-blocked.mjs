import { assert, choose, forgetCookies, isOurs, isSession, open, watch } from '../lib.mjs';

export const title = 'a browser that keeps our session cookie, or no cookie of ours, not: a page says so, no loop';

const TRIPS = 3;

export async function run({ base, newPerson }) {
  const person = async () => (await newPerson()).newPage();
  return {
    session: await without(await person(), base, isSession, ['no-cookie']),
    all: await without(await person(), base, isOurs, ['no-cookie', 'restart']),
  };
}

async function without(page, base, unwanted, ends) {
  await forgetCookies(page, base, unwanted);
  const { trips } = watch(page, base);
  let name = await open(page, base, '/deep/link?cookies=0');
  while (name === 'chooser') {
    assert(trips.length <= TRIPS, `no end after ${trips.length} trips to the provider`);
    name = await choose(page, 'alice');
  }
  assert(ends.includes(name), `expected the page ${ends.join(' or ')}, got ${name} at ${page.url()}`);
  assert(trips.length <= TRIPS, `${trips.length} trips to the provider`);
  return { ended_at: name, trips: trips.length };
}
