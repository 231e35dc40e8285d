import { counts, expectDeepLink, expectSignedInAs, open, same, signIn, watch } from '../lib.mjs';

export const title = 'the callback once more after success: on to the target, no second redemption';

const TARGET = '/deep/link?reload=%2F1';

export async function run({ base, control, newPerson }) {
  const page = await (await newPerson()).newPage();
  const { callbacks, trips } = watch(page, base);
  await signIn(page, base, TARGET, 'alice');
  await expectDeepLink(page, base, TARGET);
  same(callbacks.length, 1, 'callbacks seen');

  const before = await counts(control);
  await open(page, base, callbacks[0]);
  await expectDeepLink(page, base, TARGET);
  await expectSignedInAs(page, base, 'alice');
  same(trips.length, 1, 'trips to the provider');
  const after = await counts(control);
  if (control) {
    same(after.token, before.token, 'token requests at the provider');
    same(after.double_redemptions, before.double_redemptions, 'double redemptions at the provider');
  }
  return { token_requests_more: control ? after.token - before.token : 'not looked at, no --control' };
}
