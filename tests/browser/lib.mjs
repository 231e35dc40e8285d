// What scenarios are made of: a browser, pages known by their `data-page`, cookies, what went to the provider.

import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';

import { chromium } from 'playwright-core';

const PATIENCE = 15_000;

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export { assert };

/** Like assert.deepEqual, but says both values beside what they are. */
export function same(actual, expected, what) {
  assert(isDeepStrictEqual(actual, expected), `${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

/** Starts Chromium on a new empty profile (Playwright makes and removes it). */
export async function launch(executablePath) {
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });
  const pages = [];
  const refusals = [];

  /** One person's browser: cookies of its own. */
  async function newPerson() {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    context.setDefaultTimeout(PATIENCE);
    context.on('page', (page) => {
      pages.push(page);
      page.on('console', (message) => {
        if (message.text().includes('Content Security Policy')) refusals.push(message.text());
      });
    });
    return context;
  }

  return {
    newPerson,
    refused: () => refusals,
    close: () => browser.close(),
    /** The page used last; a failure to take the picture must not hide the failure itself. */
    async shootFailure(file) {
      const page = pages.findLast((candidate) => !candidate.isClosed());
      await page?.screenshot({ path: file, fullPage: true, timeout: 5000 }).catch(() => {});
    },
  };
}

export function withDeadline(promise, seconds) {
  let timer;
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished after ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Pages

/** Opens a path of the dashboard (or a whole URL) and waits for whatever page comes at the end. */
export async function open(page, base, target) {
  await page.goto(target.startsWith('http') ? target : base + target, { waitUntil: 'domcontentloaded' });
  return pageName(page);
}

/** The name of the page shown; waits until one with a name is there. */
export async function pageName(page) {
  await page.locator('[data-page]').first().waitFor({ state: 'attached' }).catch(() => {
    const where = page.url().startsWith('chrome-error:') ? 'the browser gave up (a redirect loop, or no answer)' : page.url();
    throw new Error(`no page with a name (data-page): ${where}`);
  });
  return page.locator('[data-page]').first().getAttribute('data-page');
}

export async function expectPage(page, ...names) {
  const selector = names.map((name) => `[data-page="${name}"]`).join(',');
  await page.locator(selector).first().waitFor({ state: 'attached' }).catch(async () => {
    const there = await pageName(page).catch(() => 'a page without a name');
    throw new Error(`expected the page ${names.join(' or ')}, got ${there} at ${page.url()}`);
  });
  return pageName(page);
}

/** Clicks, and waits for the next document (also if it is the same page once more). */
export async function clickThrough(page, selector) {
  await page.evaluate(() => document.documentElement.setAttribute('data-before-click', ''));
  await page.locator(selector).first().click();
  await page.locator('html:not([data-before-click])').waitFor({ state: 'attached' }).catch(() => {
    throw new Error(`a click on ${selector} led nowhere, still at ${page.url()}`);
  });
  return pageName(page);
}

export const choose = (page, user) => clickThrough(page, `[data-user="${user}"]`);

/** Opens a protected path as nobody, meets the chooser, signs in. */
export async function signIn(page, base, target, user) {
  await open(page, base, target);
  await expectPage(page, 'chooser');
  await choose(page, user);
}

/** On the dashboard's first page: who it says is signed in. */
export async function who(page, base) {
  await open(page, base, '/');
  await expectPage(page, 'dashboard');
  const text = async (name) => (await page.getByTestId(name).allTextContents())[0]?.trim();
  return { subject: await text('subject'), email: await text('email'), name: await text('name') };
}

export async function expectSignedInAs(page, base, user) {
  const shown = await who(page, base);
  assert(Object.values(shown).join(' ').toLowerCase().includes(user),
    `expected ${user} to be signed in, the dashboard shows ${JSON.stringify(shown)}`);
  return shown;
}

/** The deep link must have come through byte for byte: in the address bar, and at the server. */
export async function expectDeepLink(page, base, target) {
  const shown = await page.getByTestId('deep-link').first().textContent()
    .catch(() => { throw new Error(`expected ${target}, got ${page.url()}, which shows no deep link`); });
  same(page.url(), base + target, 'the deep link in the address bar');
  same(shown.trim(), target, 'the deep link as the server got it');
}

// Signing out

/** From a page with a sign-out button, over the provider's question if it asks, to our signed-out page. */
export async function signOut(page, button = '[data-testid="sign-out"]') {
  await clickThrough(page, button);
  const asked = await expectPage(page, 'op-logout', 'signed-out') === 'op-logout';
  if (asked) await clickThrough(page, '[data-action="logout-yes"]');
  await expectPage(page, 'signed-out');
  return { asked_by_provider: asked };
}

/** In a tab of its own, by our logout page: what other tabs show stays, without a session behind it. */
export async function signOutInAnotherTab(person, base) {
  const tab = await person.newPage();
  await open(tab, base, '/auth/logout');
  await expectPage(tab, 'confirm-sign-out');
  await signOut(tab, '[data-action="sign-out"]');
  await tab.close();
}

// Cookies

export const isOurs = ({ name }) => /^(__Host-|__Secure-)?auth_/.test(name);
export const isSession = ({ name }) => isOurs({ name }) && /-s[1-4]?$/.test(name);
export const isPending = ({ name }) => isOurs({ name }) && /-p-/.test(name);

export const ourCookies = async (context) => (await context.cookies()).filter(isOurs);

/**
 * A browser that does not keep some of our cookies: each of our answers is held until they are gone again.
 * (Playwright's routes do not see redirected requests, so this speaks to the browser directly.)
 */
export async function forgetCookies(page, base, unwanted) {
  const context = page.context();
  const browser = await context.newCDPSession(page);
  await browser.send('Fetch.enable', { patterns: [{ urlPattern: `${base}/*`, requestStage: 'Response' }] });
  browser.on('Fetch.requestPaused', async ({ requestId }) => {
    for (const { name, domain, path } of (await context.cookies()).filter(unwanted)) {
      await browser.send('Network.deleteCookies', { name, domain, path });
    }
    await browser.send('Fetch.continueRequest', { requestId }).catch(() => {});
  });
}

// What went over the wire

/** Collects the navigations of a page: trips to the provider, and the addresses of our callback. */
export function watch(page, base) {
  const trips = [];
  const callbacks = [];
  page.on('request', (request) => {
    if (!request.isNavigationRequest()) return;
    const url = new URL(request.url());
    if (url.origin !== base && url.searchParams.has('code_challenge')) trips.push(url);
    if (url.origin === base && url.pathname.endsWith('/auth/callback')) callbacks.push(url.href);
  });
  return { trips, callbacks };
}

/** Signs in at the provider, but keeps the way back to itself: an address of our callback, never opened. */
export async function stealCallback(page, base, target, user) {
  let stop;
  const stolen = new Promise((resolve) => { stop = resolve; });
  const browser = await page.context().newCDPSession(page);
  await browser.send('Fetch.enable', { patterns: [{ urlPattern: `${base}/auth/callback*`, requestStage: 'Request' }] });
  browser.on('Fetch.requestPaused', ({ requestId, request }) => {
    stop(request.url);
    browser.send('Fetch.failRequest', { requestId, errorReason: 'Aborted' }).catch(() => {});
  });
  await open(page, base, target);
  await expectPage(page, 'chooser');
  await page.locator(`[data-user="${user}"]`).click();
  return withDeadline(stolen, PATIENCE / 1000);
}

/** The provider's counts, or nothing where there is no control server. */
export async function counts(control) {
  return control && (await fetch(`${control}/counts`)).json();
}
