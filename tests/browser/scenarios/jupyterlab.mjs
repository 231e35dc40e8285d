import path from 'node:path';

import { open, same, signOutInAnotherTab, watch } from '../lib.mjs';
import { arrive, runCell, save, watchSockets } from '../upstreams.mjs';

const DEEP = '/lab/tree/work.ipynb';

/** The session ends by a sign-out in another tab, then the provider asks again; or by its lifetime. */
const scenario = (name, ends) => ({
  needs: ({ upstream, expirySeconds }) => {
    if (upstream !== 'jupyterlab') return 'needs a gateway before JupyterLab, and --upstream jupyterlab';
    if (name === 'expiry' && !expirySeconds) return 'needs --session-absolute N, and --expiry-seconds N here';
    return undefined;
  },
  async run(test) {
    const { base, newPerson, out, expirySeconds = 0 } = test;
    const person = await newPerson();
    const page = await person.newPage();
    const { trips } = watch(page, base);
    const sockets = watchSockets(page);

    await open(page, base, DEEP);
    await arrive(page, base + DEEP, { asked: true });
    await runCell(page, sockets, 'answer = 6*7; print(answer)', '42');
    await save(page);
    await page.screenshot({ path: path.join(out, `jupyterlab-${name}-1-cell.png`) });

    const closed = sockets.closed((expirySeconds + 15) * 1000);
    await Promise.all([closed, ends(test, person)]);
    // JupyterLab tries to connect again, and is refused.
    await page.locator('.jp-Notebook-ExecutionIndicator:not([data-status="idle"])').waitFor();
    const shown = (await page.locator('#jp-main-statusbar').innerText()).replace(/\s+/g, ' ').trim();
    const status = await page.evaluate(async () => (await fetch('/api/kernels')).status);
    same(status, 401, "status of Jupyter's API after the end");
    await page.screenshot({ path: path.join(out, `jupyterlab-${name}-2-ended.png`) });
    same(trips.length, 1, 'trips to the provider before the next navigation');

    await page.goto(base + DEEP, { waitUntil: 'domcontentloaded' });
    await arrive(page, base + DEEP, { asked: name === 'sign-out' });
    same(trips.length, 2, 'trips to the provider');
    // The kernel itself has lived on: it knows the answer.
    await runCell(page, sockets, 'print(answer + 1)', '43');
    await save(page);
    return { shown };
  },
});

export const signedOut = {
  title: 'JupyterLab through gateway: a cell runs; signed out in another tab its WebSocket closes',
  ...scenario('sign-out', ({ base }, person) => signOutInAnotherTab(person, base)),
};

export const expired = {
  title: 'JupyterLab through gateway: a cell runs; the session ends by itself and its WebSocket closes',
  ...scenario('expiry', () => {}),
};
