// The second OpenID provider of the tests: npm oidc-provider, an implementation that shares nothing with the first.
//
//   node provider.mjs '{"issuer": "http://127.0.0.1:9000", "clients": […], "users": […]}'
//
// It listens on a free port of 127.0.0.1, prints that port on its first line, and expects to be reached through a proxy
// at the issuer's address (e2e/internal/provider does that). The further settings are read in configuration() below.
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import dns from 'node:dns';
import http from 'node:http';

const settings = JSON.parse(process.argv[2]);
// Version 6 is the last that has front-channel logout. What differs between the two is where isOld is asked.
const isOld = settings.frontchannelLogout ?? false;
const { default: Provider } = await import(isOld ? 'oidc-provider-6' : 'oidc-provider');
const users = new Map(settings.users.map((user) => [user.claims.sub ?? user.name, user]));

// Names under .localhost lead to this machine, as browsers have it: back-channel logout goes to such names.
const { lookup } = dns;
dns.lookup = (name, ...rest) => lookup(name.endsWith('.localhost') ? '127.0.0.1' : name, ...rest);

// keys makes one key of each kind, so that a client can have its tokens signed by any algorithm. They go through PEM: when
// Node 20 collects garbage while it writes a key just made as JWK, it waits for its own lock forever.
function keys() {
  const pem = { publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } };
  const jwk = (alg, kind, options) => ({
    ...createPrivateKey(generateKeyPairSync(kind, { ...options, ...pem }).privateKey).export({ format: 'jwk' }), use: 'sig', ...alg,
  });
  return [
    jwk({}, 'rsa', { modulusLength: 2048 }),
    jwk({}, 'ec', { namedCurve: 'P-256' }),
    jwk({}, 'ec', { namedCurve: 'P-384' }),
    jwk({}, 'ec', { namedCurve: 'P-521' }),
    jwk({ alg: 'EdDSA' }, 'ed25519'),
  ];
}

const rsa = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
const algorithms = [...rsa, 'ES256', 'ES384', 'ES512', 'EdDSA'];

// accessTokenClaims are those of JWT access tokens; opaque ones say the same when they are introspected.
function accessTokenClaims(_ctx, token) {
  const { sub, ...claims } = users.get(token.accountId)?.claims ?? {};
  return claims;
}

// grant lets a client have whatever it asks for: consent pages are not what the tests are about.
async function grant(ctx) {
  const { Grant } = ctx.oidc.provider;
  const clientId = ctx.oidc.client.clientId;
  const existing = ctx.oidc.session.grantIdFor(clientId);
  const found = existing && await Grant.find(existing);
  const allowed = found ?? new Grant({ clientId, accountId: ctx.oidc.session.accountId });
  allowed.addOIDCScope(ctx.oidc.params.scope);
  for (const resource of [ctx.oidc.params.resource ?? []].flat()) {
    allowed.addResourceScope(resource, ctx.oidc.params.scope);
  }
  await allowed.save();
  return allowed;
}

function configuration() {
  return {
    clients: settings.clients,
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'none'],
    claims: {
      openid: ['sub', 'groups', 'roles', 'address'],
      profile: ['name', 'given_name', 'family_name', 'preferred_username'],
      email: ['email', 'email_verified'],
      acr: null, auth_time: null, iss: null, sid: null,
    },
    // thinIdTokens keeps the claims of scopes for UserInfo, as OpenID Connect Core 5.4 describes.
    conformIdTokenClaims: settings.thinIdTokens ?? false,
    acrValues: settings.acrValues ?? [],
    cookies: { keys: ['not a secret'] },
    enabledJWA: { idTokenSigningAlgValues: [...algorithms, 'HS256', 'HS384', 'HS512'], clientAuthSigningAlgValues: algorithms },
    extraTokenClaims: accessTokenClaims,
    features: {
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      // The proxy in front ends TLS, checks the client's certificate and tells its first name.
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => ctx.get('x-client-name') || undefined,
        certificateAuthorized: (ctx) => ctx.get('x-client-name') !== '',
        certificateSubjectMatches: (ctx, _property, expected) => ctx.get('x-client-name') === expected,
      },
      pushedAuthorizationRequests: {
        enabled: true,
        requirePushedAuthorizationRequests: settings.requirePAR ?? false,
      },
      // Every resource exists. Access tokens for one are JWTs, unless its name has "opaque" in it.
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: resource,
          scope: 'openid profile email offline_access read write',
          accessTokenFormat: resource.includes('opaque') ? 'opaque' : 'jwt',
          jwt: { sign: { alg: settings.accessTokenAlg ?? 'RS256' } },
        }),
      },
      revocation: { enabled: true },
      rpInitiatedLogout: {
        enabled: settings.logout ?? true,
        // The page asks nothing: its form is sent by its script.
        logoutSource: (ctx, form) => {
          ctx.body = page(`${form.replace('</form>', '<input type="hidden" name="logout" value="yes"></form>')}
            <script>document.forms[0].submit()</script>`);
        },
        // Their own page loads a font from elsewhere.
        postLogoutSuccessSource: (ctx) => { ctx.body = page('<h1>You are signed out of oidc-provider.</h1>'); },
      },
    },
    // Without its dispatcher, which refuses this machine's addresses: the applications are here.
    fetch: (url, { dispatcher: _refusing, ...options }) => fetch(url, options),
    findAccount: (_ctx, sub) => users.has(sub) && {
      accountId: sub,
      claims: () => ({ preferred_username: users.get(sub).name, ...users.get(sub).claims, sub }),
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    jwks: { keys: keys() },
    loadExistingGrant: grant,
    pkce: { required: () => settings.requirePKCE ?? false },
    rotateRefreshToken: settings.rotateRefreshToken ?? true,
    // The paths are those of the first provider, so that the tests can count calls by their names.
    routes: {
      authorization: '/authorize', token: '/token', userinfo: '/userinfo', jwks: '/jwks', introspection: '/introspect',
      revocation: '/revoke', end_session: '/end_session', pushed_authorization_request: '/par',
    },
    scopes: ['openid', 'offline_access', 'read', 'write'],
    ttl: { AccessToken: 300, AuthorizationCode: 60, ClientCredentials: 300, Grant: 86400, IdToken: 3600, Interaction: 600,
      RefreshToken: 18000, Session: 86400, ...settings.ttl },
  };
}

// oldConfiguration is that of version 6, which passes over what it does not know, but for features.
function oldConfiguration() {
  const { features: { backchannelLogout, devInteractions, rpInitiatedLogout }, ...common } = configuration();
  return { ...common, features: { backchannelLogout, devInteractions, rpInitiatedLogout, frontchannelLogout: { enabled: true } } };
}

function page(content) {
  return `<!doctype html><meta charset="utf-8"><title>oidc-provider</title>${content}`;
}

// interact is the sign-in page. Every other question of the provider is answered with yes.
async function interact(req, res) {
  const details = await provider.interactionDetails(req, res);
  const finish = (result) => provider.interactionFinished(req, res, result, { mergeWithLastSubmission: true });
  if (details.prompt.name !== 'login') {
    return finish({ consent: { grantId: details.grantId } });
  }
  if (req.method !== 'POST') {
    res.setHeader('content-type', 'text/html');
    return res.end(page(`<h1>Sign in to ${details.params.client_id}</h1><form method="post">
      <input name="username" value="${details.params.login_hint ?? ''}"><input name="password" type="password"><button>Sign in</button></form>`));
  }
  const form = new URLSearchParams(await body(req));
  const user = settings.users.find(({ name, password }) => name === form.get('username') && password === form.get('password'));
  if (!user) {
    return finish({ error: 'access_denied', error_description: 'wrong name or password' });
  }
  const acr = details.params.acr_values?.split(' ')[0];
  return finish({ login: { [isOld ? 'account' : 'accountId']: user.claims.sub ?? user.name, ...(acr && { acr }) } });
}

async function body(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const provider = new Provider(settings.issuer, isOld ? oldConfiguration() : configuration());
provider.proxy = true; // believe X-Forwarded-Proto
provider.on('server_error', (_ctx, error) => console.error(error));
provider.on('grant.error', (_ctx, error) => console.error(error.message, error.error_description));
provider.on('backchannel.error', (_ctx, error, client) => console.error(`back-channel logout of ${client.clientId}: ${error.cause ?? error}`));
provider.on('authorization.error', (_ctx, error) => console.error(error.message, error.error_description));

const handle = isOld ? provider.callback : provider.callback();
const server = http.createServer((req, res) => {
  if (!req.url.startsWith('/interaction/')) return handle(req, res);
  return interact(req, res).catch((error) => {
    console.error(error);
    res.statusCode = 500;
    res.end(String(error));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
