// Imported first: oidc-provider writes its notices while it is being loaded. stdout carries our one line and
// nothing else; that Node 20 is not the newest is known, all other notices go to stderr.

const KNOWN = 'Unsupported runtime';

for (const level of ['info', 'log', 'warn']) {
  console[level] = (...parts) => {
    if (!String(parts[0]).includes(KNOWN)) console.error(...parts);
  };
}
