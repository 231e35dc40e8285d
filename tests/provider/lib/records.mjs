// The adapter: everything oidc-provider keeps, in one Map without a bound. (Its own memory adapter forgets
// the oldest of 1,000 records, which a load test of 500 logins would meet.)

const REVOCABLE = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

export function createRecords() {
  const entries = new Map();

  const live = (key) => {
    const entry = entries.get(key);
    if (entry && entry.until <= Date.now()) {
      entries.delete(key);
      return undefined;
    }
    return entry?.payload;
  };

  class Records {
    constructor(model) {
      this.model = model;
    }

    key(id) {
      return `${this.model}:${id}`;
    }

    async upsert(id, payload, expiresIn) {
      const until = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
      entries.set(this.key(id), { payload, until });
      if (payload.uid) entries.set(`${this.model}:uid:${payload.uid}`, { payload: id, until });
    }

    async find(id) {
      return live(this.key(id));
    }

    async findByUid(uid) {
      return this.find(live(`${this.model}:uid:${uid}`));
    }

    async consume(id) {
      live(this.key(id)).consumed = Math.floor(Date.now() / 1000);
    }

    async destroy(id) {
      const payload = live(this.key(id));
      entries.delete(this.key(id));
      if (payload?.uid) entries.delete(`${this.model}:uid:${payload.uid}`);
    }

    async revokeByGrantId(grantId) {
      if (!REVOCABLE.has(this.model)) return;
      for (const [key, { payload }] of entries) {
        if (payload.grantId === grantId && key.startsWith(`${this.model}:`)) entries.delete(key);
      }
    }
  }

  return (model) => new Records(model);
}
