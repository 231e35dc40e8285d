import path from 'node:path';

import {
  choose, clickThrough, expectPage, forgetCookies, isOurs, isSession, open, pageName, signIn,
} from '../lib.mjs';

export const title = 'a picture of every page that can be reached: light, dark, and narrow';

const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 390, height: 844 };

/** All pages of ours; some need trouble that a browser alone cannot make, and are reported as not reached. */
const OURS = [
  'signed-out', 'confirm-sign-out', 'signed-out-here-only', 'restart', 'no-cookie', 'provider-error', 'forbidden',
  'unavailable', 'bad-request',
];

/** Takes a picture of a page in light, in dark and narrow; `tooWide` notes what a narrow window cannot hold. */
export function camera(out) {
  const shots = [];
  const tooWide = [];
  const shoot = async (page, name) => {
    for (const colorScheme of ['light', 'dark']) {
      // Without motion, or the picture shows colours half-way between the two.
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.screenshot({ path: path.join(out, `${name}-${colorScheme}.png`), fullPage: true });
    }
    await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
    await page.setViewportSize(NARROW);
    await page.screenshot({ path: path.join(out, `${name}-narrow.png`), fullPage: true });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    if (width > NARROW.width) tooWide.push({ name, width });
    await page.setViewportSize(WIDE);
    shots.push(name);
  };
  return { shoot, shots, tooWide };
}

export async function run({ base, control, out, newPerson }) {
  const { shoot, shots, tooWide } = camera(out);
  const newPage = async () => (await newPerson()).newPage();

  for (const visit of [everyday, refused, nonsense, withoutSession, withoutCookies]) await visit(await newPage(), base, shoot);
  if (control) await providerFails(await newPage(), base, shoot, control);

  return { shots, not_reached: OURS.filter((name) => !shots.includes(name)), wider_than_390: tooWide };
}

async function everyday(page, base, shoot) {
  await open(page, base, '/public');
  await shoot(page, 'public');
  await open(page, base, '/deep/link?x=%26&y=a%2Fb');
  await expectPage(page, 'chooser');
  await shoot(page, 'chooser');
  await choose(page, 'alice');
  await shoot(page, 'deep-link');
  await open(page, base, '/');
  await expectPage(page, 'dashboard');
  await shoot(page, 'dashboard');
  for (const name of ['expired', 'no-referrer']) await shoot(page, await open(page, base, `/${name}`));
  await open(page, base, '/auth/logout');
  await expectPage(page, 'confirm-sign-out');
  await shoot(page, 'confirm-sign-out');
  let next = await clickThrough(page, '[data-action="sign-out"]');
  if (next === 'op-logout') {
    await shoot(page, 'op-logout');
    next = await clickThrough(page, '[data-action="logout-yes"]');
  }
  await expectPage(page, 'signed-out');
  await shoot(page, 'signed-out');
}

async function refused(page, base, shoot) {
  await open(page, base, '/');
  await expectPage(page, 'chooser');
  await choose(page, 'deny');
  await expectPage(page, 'provider-error');
  await shoot(page, 'provider-error');
}

async function nonsense(page, base, shoot) {
  await open(page, base, '/auth/callback?state=nonsense&code=nonsense');
  await shoot(page, await pageName(page));
}

const withoutSession = (page, base, shoot) => without(page, base, shoot, isSession);
const withoutCookies = (page, base, shoot) => without(page, base, shoot, isOurs);

async function without(page, base, shoot, unwanted) {
  await forgetCookies(page, base, unwanted);
  let name = await open(page, base, '/');
  for (let trips = 1; name === 'chooser' && trips <= 3; trips += 1) name = await choose(page, 'alice');
  await shoot(page, name);
}

/** The token endpoint fails once: the page that blames the provider. */
async function providerFails(page, base, shoot, control) {
  await fetch(`${control}/fail?endpoint=token&status=500&times=1`, { method: 'POST' });
  await signIn(page, base, '/', 'alice');
  const name = await pageName(page);
  await shoot(page, name === 'provider-error' ? 'provider-error-500' : name);
}
