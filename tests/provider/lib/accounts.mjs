// The people who can sign in. The same three as in the crate's own in-process provider.

const PEOPLE = new Map([
  ['alice', { name: 'Alice Archer', groups: ['admins', 'staff'] }],
  ['bob', { name: 'Bob Baker', groups: ['staff'] }],
  ['mallory', { name: 'Mallory Moss', groups: [] }],
]);

export const people = () => [...PEOPLE].map(([id, { name }]) => ({ id, name, email: `${id}@example.com` }));

export const isPerson = (id) => PEOPLE.has(id);

export function findAccount(_ctx, id) {
  const person = PEOPLE.get(id);
  if (!person) return undefined;
  return {
    accountId: id,
    claims: async () => ({
      sub: id,
      email: `${id}@example.com`,
      email_verified: true,
      name: person.name,
      preferred_username: id,
      groups: person.groups,
    }),
  };
}
