import path from 'node:path';

import { assert, expectPage, open, same, signOutInAnotherTab, watch } from '../lib.mjs';
import { arrive, execute, values } from '../upstreams.mjs';

const DEEP = '/classic/graph?g0.expr=up&g0.tab=1';

/** The session ends by a sign-out in another tab, then the provider asks again; or by its lifetime. */
const scenario = (name, ends) => ({
  needs: ({ upstream, expirySeconds }) => {
    if (upstream !== 'prometheus') return 'needs a gateway before Prometheus, and --upstream prometheus';
    if (name === 'expiry' && !expirySeconds) return 'needs --session-absolute N, and --expiry-seconds N here';
    return undefined;
  },
  async run(test) {
    const { base, newPerson, out } = test;
    const person = await newPerson();
    const page = await person.newPage();
    const { trips } = watch(page, base);

    await open(page, base, DEEP);
    await arrive(page, base + DEEP, { asked: true });
    const up = await values(page);
    assert(up.some((text) => /up\{.*job="prometheus".*\}\s+1$/s.test(text)), `up shows ${JSON.stringify(up)}`);
    same((await execute(page, 'prometheus_build_info')).status(), 200, 'status of a query');
    await page.locator('#console0', { hasText: 'prometheus_build_info' }).waitFor();
    const build = await values(page);
    await page.screenshot({ path: path.join(out, `prometheus-${name}-1-query.png`) });
    const deep = page.url();

    await ends(test, person, page);

    const denied = await execute(page, 'up');
    same(denied.status(), 401, 'status of a query after the end');
    const { login_url: login } = await denied.json();
    assert(login, 'login_url in the denial');
    await page.locator('.error:visible').first().waitFor();
    const said = await page.locator('.error:visible').first().innerText();
    await page.screenshot({ path: path.join(out, `prometheus-${name}-2-ended.png`) });

    same(trips.length, 1, 'trips to the provider before the next navigation');
    await page.goto(deep, { waitUntil: 'domcontentloaded' });
    await arrive(page, deep, { asked: name === 'sign-out' });
    same(trips.length, 2, 'trips to the provider');
    same(await values(page), build, 'the query of the deep link, after signing in again');
    return { build, denied: said, login };
  },
});

export const signedOut = {
  title: 'Prometheus through gateway: a query; signed out in another tab the next one is refused',
  ...scenario('sign-out', ({ base }, person) => signOutInAnotherTab(person, base)),
};

export const expired = {
  title: 'Prometheus through gateway: a query; the session ends by itself and the next one is refused',
  ...scenario('expiry', ({ expirySeconds }, _person, page) => page.waitForTimeout(expirySeconds * 1000 + 1000)),
};
