// What scenarios do in the dashboards behind `gateway`: Prometheus (Debian's classic page) and JupyterLab.

import { assert, expectPage, same, withDeadline } from './lib.mjs';

// Both

/** Chooses a person where the provider asks for one, and waits until the browser is back at the deep link. */
export async function arrive(page, url, { asked }) {
  if (asked) {
    await expectPage(page, 'chooser');
    await page.locator('[data-user="alice"]').click();
  }
  await page.waitForURL(url, { waitUntil: 'domcontentloaded' })
    .catch(() => { throw new Error(`expected to come to ${url}, got to ${page.url()}`); });
}

// Prometheus

/** Types a query and executes it; the answer of its API. */
export async function execute(page, query) {
  await page.locator('#expr0').fill(query);
  const [answer] = await Promise.all([
    page.waitForResponse((response) => new URL(response.url()).pathname === '/api/v1/query'),
    page.locator('.execute_btn').first().click(),
  ]);
  return answer;
}

/** What the table of the query shows; waits until there is something. */
export async function values(page) {
  const row = page.locator('#console0 tbody tr');
  await row.first().waitFor().catch(() => { throw new Error(`Prometheus shows no value at ${page.url()}`); });
  return row.allInnerTexts();
}

// JupyterLab

/** JupyterLab loads megabytes of script, then a kernel starts. */
const SLOW = 45_000;
const CELL = '.jp-Notebook .jp-CodeCell';

/** Follows the sockets of a page to its kernel. */
export function watchSockets(page) {
  const open = new Set();
  const speaking = new Set();
  let tell = () => {};
  page.on('websocket', (socket) => {
    if (!/\/api\/kernels\/[^/]+\/channels/.test(socket.url())) return;
    open.add(socket);
    socket.on('framereceived', ({ payload }) => {
      if (!payload.includes('kernel_info_reply')) return;
      speaking.add(socket);
      tell();
    });
    for (const end of ['close', 'socketerror']) socket.on(end, () => [open, speaking].forEach((set) => set.delete(socket)));
  });
  return {
    /** Until the kernel has said over a socket what it is; JupyterLab runs no cell before. */
    async connected() {
      if (speaking.size > 0) return;
      await withDeadline(new Promise((resolve) => { tell = resolve; }), SLOW / 1000)
        .catch(() => { throw new Error('the kernel says nothing over its WebSocket'); });
    },
    /** Until those that are open now have closed. */
    async closed(milliseconds) {
      assert(speaking.size > 0, 'JupyterLab has no socket to its kernel');
      await Promise.all([...open].map((socket) => socket.waitForEvent('close', { timeout: milliseconds }).catch(() => {
        throw new Error(`a kernel's WebSocket was still open after ${milliseconds / 1000} s`);
      })));
    },
  };
}

/** Puts code into the last cell of the notebook, runs it, and waits for what it prints. */
export async function runCell(page, sockets, code, printed) {
  await sockets.connected();
  await page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').waitFor();
  const cells = page.locator(CELL);
  const cell = cells.nth(await cells.count() - 1);
  await cell.locator('.cm-content').click();
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.insertText(code);
  await page.keyboard.press('Shift+Enter');
  const output = cell.locator('.jp-OutputArea-output');
  await output.first().waitFor().catch(() => { throw new Error('the cell has printed nothing'); });
  same((await output.first().innerText()).trim(), printed, `what ${code} prints`);
}

/** Saves the notebook, a PUT with a body; there is nothing to lose then when the page is left. */
export async function save(page) {
  const [saved] = await Promise.all([
    page.waitForResponse((response) => (
      response.request().method() === 'PUT' && new URL(response.url()).pathname.startsWith('/api/contents/'))),
    page.keyboard.press('Control+s'),
  ]);
  same(saved.status(), 200, 'status of saving the notebook');
}
