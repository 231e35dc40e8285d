// The provider's pages: plain HTML, no script, nothing loaded from elsewhere. `data-*` is what tests go by.

import { people } from './accounts.mjs';

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => String(text ?? '').replace(/[&<>"']/g, (mark) => ESCAPES[mark]);

function page(name, title, content) {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title><style>${STYLE}</style></head>
<body data-page="${name}"><main><h1>${escape(title)}</h1>${content}</main></body></html>`;
}

export function chooser(action, clientId) {
  const buttons = people().map(({ id, name, email }) => (
    `<button name="user" value="${id}" data-user="${id}"><b>${escape(name)}</b> <small>${escape(email)}</small></button>`));
  return page('chooser', 'Who are you?', `<p>to continue to <b>${escape(clientId)}</b></p>
<form method="post" action="${escape(action)}">${buttons.join('')}
<button class="quiet" name="user" value="deny" data-user="deny">Refuse</button></form>`);
}

/** `form` is oidc-provider's own (with its token against forgery); our buttons join it by its id. */
export const logout = (form) => page('op-logout', 'Sign out of the provider?', `${form}
<button form="op.logoutForm" name="logout" value="yes" data-action="logout-yes">Yes, sign me out</button>
<button class="quiet" form="op.logoutForm" data-action="logout-no">No, stay signed in</button>`);

export const signedOut = () => page('op-signed-out', 'Signed out of the provider', '<p>You can close this page.</p>');

export const failure = ({ error, error_description }) => page('op-error', 'The provider cannot go on',
  `<p data-error="${escape(error)}"><b>${escape(error)}</b> ${escape(error_description)}</p>`);

const STYLE = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:light-dark(#f3f4f6,#16181d)}
main{box-sizing:border-box;width:min(26rem,92vw);padding:2rem;border-radius:12px;background:light-dark(#fff,#22252c)}
h1{margin:0 0 .5rem;font-size:1.4rem}
button{display:block;width:100%;margin:.6rem 0;padding:.7rem 1rem;border:1px solid light-dark(#ccd,#445);
border-radius:8px;background:light-dark(#eef2ff,#2c3350);color:inherit;font:inherit;text-align:left;cursor:pointer}
button.quiet{background:none}
small{opacity:.7}`;
