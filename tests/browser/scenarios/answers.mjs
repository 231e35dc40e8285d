import { assert, open } from '../lib.mjs';
import { camera } from './screenshots.mjs';

export const title = 'a picture of the pages that need trouble: a server shows answers of ours at /answers/NAME';

// Such a server is made by the tests; the dashboard has none, so `all` leaves this one out.
export const needs = ({ answers }) => (answers ? undefined : 'needs --answers, and a server that has them');

export async function run({ base, out, newPerson }) {
  const names = await (await fetch(`${base}/answers`)).json();
  const { shoot, shots, tooWide } = camera(out);
  const page = await (await newPerson()).newPage();
  for (const name of names) {
    assert.equal(await open(page, base, `/answers/${name}`), name, 'the page that was asked for');
    await shoot(page, name);
  }
  return { shots, wider_than_390: tooWide };
}
