// Faults that a test orders for an endpoint: answers that fail a number of times, answers that are slow.

export const ENDPOINTS = new Map([
  ['/auth', 'authorize'],
  ['/token', 'token'],
  ['/me', 'userinfo'],
  ['/token/revocation', 'revocation'],
  ['/session/end', 'end_session'],
  ['/.well-known/openid-configuration', 'discovery'],
  ['/jwks', 'jwks'],
]);

const KNOWN = new Set(ENDPOINTS.values());

export function createFaults() {
  const failures = new Map();
  const delays = new Map();

  return {
    /** `after`: the provider does its work and only the answer is lost. */
    fail(endpoint, status, times, after) {
      if (!KNOWN.has(endpoint)) return false;
      failures.set(endpoint, { status, times, after });
      return true;
    },
    delay(endpoint, ms) {
      if (!KNOWN.has(endpoint)) return false;
      delays.set(endpoint, ms);
      return true;
    },
    clear() {
      failures.clear();
      delays.clear();
    },
    /** Takes one failure of those ordered. */
    next(endpoint) {
      const failure = failures.get(endpoint);
      if (!failure || failure.times <= 0) return undefined;
      failure.times -= 1;
      return failure;
    },
    wait(endpoint) {
      const ms = delays.get(endpoint) ?? 0;
      return ms > 0 ? new Promise((resolve) => { setTimeout(resolve, ms); }) : undefined;
    },
  };
}
