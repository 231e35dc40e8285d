// Drives Debian's Chromium through one scenario, or all, against a running dashboard or gateway. See README.md.

import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { launch, withDeadline } from './lib.mjs';
import { SCENARIOS } from './scenarios/index.mjs';

const SECONDS_EACH = 90;

const { values: args } = parseArgs({
  options: {
    scenario: { type: 'string' },
    base: { type: 'string' },
    provider: { type: 'string', default: 'in-process' },
    control: { type: 'string' },
    out: { type: 'string', default: 'out' },
    answers: { type: 'boolean' },
    upstream: { type: 'string' },
    'expiry-seconds': { type: 'string' },
    repeat: { type: 'string', default: '1' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
    list: { type: 'boolean', default: false },
  },
});

if (args.list) {
  for (const [name, { title }] of SCENARIOS) console.log(`${name.padEnd(30)} ${title}`);
  process.exit(0);
}

const problem = wrongUse();
if (problem) {
  console.error(problem);
  process.exit(2);
}

const test = {
  base: args.base.replace(/\/$/, ''),
  provider: args.provider,
  control: args.control,
  out: path.resolve(args.out),
  answers: args.answers,
  upstream: args.upstream,
  expirySeconds: args['expiry-seconds'] && Number(args['expiry-seconds']),
};
await mkdir(test.out, { recursive: true });

const passed = [];
const failed = [];
const leftOut = [];
for (const name of args.scenario === 'all' ? SCENARIOS.keys() : [args.scenario]) {
  const reason = SCENARIOS.get(name).needs?.(test);
  if (reason && args.scenario === 'all') leftOut.push({ scenario: name, reason });
  else if (reason) failed.push({ scenario: name, reason });
  else for (let round = 1; round <= Number(args.repeat); round += 1) await one(name, round);
}

for (const { scenario, reason } of [...failed, ...leftOut]) console.error(`${scenario}: ${reason}`);
if (args.scenario === 'all' || args.repeat !== '1') {
  console.log(JSON.stringify({ scenario: args.scenario, passed: passed.length, failed, left_out: leftOut }));
}
process.exit(failed.length ? 1 : 0);

/** A new browser with an empty profile for each scenario, so that none leans on what another left behind. */
async function one(name, round) {
  const browser = await launch(args.chromium);
  try {
    const facts = await withDeadline(
      SCENARIOS.get(name).run({ ...test, ...browser, round }),
      SECONDS_EACH + (test.expirySeconds ?? 0),
    );
    if (browser.refused().length) throw new Error('all went well but for the Content-Security-Policy');
    passed.push(name);
    console.log(JSON.stringify({ scenario: name, ok: true, facts }));
  } catch (error) {
    // What a policy of ours refused is most often the reason why a click led nowhere.
    const reasons = [firstLine(error.message), ...browser.refused().slice(0, 1)];
    failed.push({ scenario: name, reason: reasons.join(' | ') });
    await browser.shootFailure(path.join(test.out, `failure-${name}.png`));
  } finally {
    await browser.close();
  }
}

function wrongUse() {
  if (!args.scenario) return 'say --scenario NAME or all (--list shows them)';
  if (args.scenario !== 'all' && !SCENARIOS.has(args.scenario)) return `no scenario ${args.scenario} (--list shows them)`;
  if (!args.base) return 'say --base http://127.0.0.1:PORT of the dashboard';
  if (!['in-process', 'oidc-provider'].includes(args.provider)) return '--provider is in-process or oidc-provider';
  if (!(Number(args.repeat) >= 1)) return '--repeat is a number of times';
  if (!['prometheus', 'jupyterlab', 'closed', undefined].includes(args.upstream)) return '--upstream is prometheus, jupyterlab or closed';
  if (args['expiry-seconds'] && !(Number(args['expiry-seconds']) > 0)) return '--expiry-seconds is a number of seconds';
  return undefined;
}

/** Playwright adds a log of its calls, in colours. */
function firstLine(text) {
  return text.split('\n')[0];
}
