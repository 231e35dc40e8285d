// What the provider saw, counted at its endpoints: the referee of "redeemed once" and "refreshed once".

const NAMES = [
  'authorize', 'interactions', 'logins', 'token', 'code_redemptions', 'code_successes', 'double_redemptions',
  'refreshes', 'refresh_successes', 'refresh_reuse', 'userinfo', 'revocation', 'end_session', 'discovery',
  'jwks', 'faults', 'backchannel_sent', 'backchannel_failed',
];

export function createCounters() {
  let counts;
  const seen = new Set();

  const counters = {
    add(name) {
      counts[name] += 1;
    },
    read: () => ({ ...counts }),
    reset() {
      counts = Object.fromEntries(NAMES.map((name) => [name, 0]));
      // `seen` stays: a code spent before the reset is still spent.
    },
    /** Called once the token endpoint has answered; a value presented before is double, whatever the answer. */
    token({ grant_type, code, refresh_token }, answered) {
      const rows = {
        authorization_code: [`code:${code}`, 'code_redemptions', 'code_successes', 'double_redemptions'],
        refresh_token: [`refresh:${refresh_token}`, 'refreshes', 'refresh_successes', 'refresh_reuse'],
      };
      if (!Object.hasOwn(rows, grant_type)) return;
      const [value, all, successes, doubles] = rows[grant_type];
      counters.add(all);
      if (answered === 200) counters.add(successes);
      if (seen.has(value)) counters.add(doubles);
      seen.add(value);
    },
  };
  counters.reset();
  return counters;
}
