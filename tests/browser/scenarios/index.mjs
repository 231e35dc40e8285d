// The scenarios, in the order of `--scenario all`.

import * as answers from './answers.mjs';
import * as backButton from './back-button.mjs';
import * as callbackOfAnother from './callback-before-session-lost.mjs';
import * as cookiesBlocked from './cookies-blocked.mjs';
import * as deny from './deny.mjs';
import * as expiry from './expiry.mjs';
import * as fetchWithoutSession from './fetch-without-session.mjs';
import * as jupyterlab from './jupyterlab.mjs';
import * as notAllowed from './not-allowed.mjs';
import * as prometheus from './prometheus.mjs';
import * as publicPage from './public-page.mjs';
import * as reloadCallback from './reload-callback.mjs';
import * as screenshots from './screenshots.mjs';
import * as signIn from './sign-in.mjs';
import * as signOut from './sign-out.mjs';
import * as signOutNoReferrer from './sign-out-no-referrer.mjs';
import * as twoTabs from './two-tabs.mjs';

export const SCENARIOS = new Map([
  ['sign-in', signIn],
  ['two-tabs', twoTabs],
  ['back-button', backButton],
  ['reload-callback', reloadCallback],
  ['callback-before-session-lost', callbackOfAnother],
  ['sign-out', signOut],
  ['sign-out-no-referrer', signOutNoReferrer],
  ['deny', deny],
  ['fetch-without-session', fetchWithoutSession],
  ['public-page', publicPage],
  ['cookies-blocked', cookiesBlocked],
  ['expiry', expiry],
  ['screenshots', screenshots],
  ['answers', answers],
  ['prometheus-sign-out', prometheus.signedOut],
  ['prometheus-expiry', prometheus.expired],
  ['jupyterlab-sign-out', jupyterlab.signedOut],
  ['jupyterlab-expiry', jupyterlab.expired],
  ['not-allowed', notAllowed],
]);
