import {
  choose, expectDeepLink, expectPage, expectSignedInAs, isPending, open, ourCookies, same,
} from '../lib.mjs';

export const title = 'two tabs start before either finishes; both get to their own deep link';

const TARGETS = ['/deep/link?tab=1&x=%26', '/deep/link?tab=2&y=a%2Fb'];

export async function run({ base, newPerson, round }) {
  const person = await newPerson();
  const tabs = [await person.newPage(), await person.newPage()];
  await Promise.all(tabs.map((tab, i) => open(tab, base, TARGETS[i])));
  await Promise.all(tabs.map((tab) => expectPage(tab, 'chooser')));
  const waiting = (await ourCookies(person)).filter(isPending).length;
  same(waiting, 2, 'cookies of pending logins while both tabs wait');

  // The one that started last finishes first in every other round.
  const order = round % 2 ? [0, 1] : [1, 0];
  for (const i of order) {
    await tabs[i].bringToFront();
    await choose(tabs[i], 'alice');
    await expectDeepLink(tabs[i], base, TARGETS[i]);
  }
  for (const tab of tabs) await expectSignedInAs(tab, base, 'alice');
  return { finished: 2, order };
}
