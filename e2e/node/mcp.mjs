// MCP with its own SDK: a server that knows nothing of sign-ins, and a client that knows nothing but the address and who it is.
//
//   node mcp.mjs server                                prints its port
//   node mcp.mjs client URL ISSUER ID SECRET           asks who it is, for itself, and prints what the server says
//   node mcp.mjs person URL ISSUER ID NAME PASSWORD    the same for a person, who signs in on the way
//   node mcp.mjs token URL TOKEN                       the same with a token that it has already
import dns from 'node:dns';
import http from 'node:http';
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

const { lookup } = dns; // Node has no names below .localhost
dns.lookup = (name, ...rest) => lookup(name.endsWith('.localhost') ? '127.0.0.1' : name, ...rest);

const [mode, ...args] = process.argv.slice(2);

// serve answers each request by itself, as a stream of events.
function serve() {
  const server = http.createServer(async (req, res) => {
    const mcp = new McpServer({ name: 'behind-the-gateway', version: '1.0.0' }, { capabilities: { logging: {} } });
    mcp.registerTool('whoami', { description: 'who the gateway says is asking' }, async ({ requestInfo, sendNotification }) => {
      await sendNotification({ method: 'notifications/message', params: { level: 'info', data: 'a moment' } });
      const { 'x-user': user, 'x-client': client, authorization } = requestInfo.headers;
      return { content: [{ type: 'text', text: `${user ?? 'nobody'} with ${client}, ${authorization ?? 'without token'}` }] };
    });
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
    res.on('close', () => { transport.close(); mcp.close(); });
    await mcp.connect(transport);
    await transport.handleRequest(req, res);
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
}

async function ask(url, options) {
  const client = new Client({ name: 'agent', version: '1.0.0' });
  client.fallbackNotificationHandler = async ({ params }) => console.log('notified', params.data);
  await client.connect(new StreamableHTTPClientTransport(new URL(url), options));
  console.log('tools', (await client.listTools()).tools.map(({ name }) => name).join());
  console.log('answer', (await client.callTool({ name: 'whoami' })).content[0].text);
  await client.close();
}

// Person is an OAuth client without a secret, by the authorization code flow. What a browser would do is done by signIn.
class Person {
  redirectUrl = 'http://127.0.0.1:1/callback';
  clientMetadata = { redirect_uris: [this.redirectUrl], token_endpoint_auth_method: 'none', grant_types: ['authorization_code'] };
  constructor(issuer, id, name, password) { Object.assign(this, { information: { client_id: id, issuer }, form: { username: name, password } }); }
  clientInformation() { return this.information; }
  tokens() { return this.saved; }
  saveTokens(tokens) { this.saved = tokens; }
  codeVerifier() { return this.verifier; }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  async redirectToAuthorization(url) {
    console.log('asks for', url.searchParams.get('scope'), 'at', url.searchParams.get('resource'), url.searchParams.get('code_challenge_method'));
    this.answer = await signIn(url, this.redirectUrl, this.form);
  }
}

async function signIn(url, end, form) {
  const cookies = new Map();
  for (let body; !url.href.startsWith(end);) {
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ');
    const answer = await fetch(url, { redirect: 'manual', headers: { cookie }, ...(body && { method: 'POST', body }) });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value) cookies.set(name, value); else cookies.delete(name);
    }
    const location = answer.headers.get('location');
    if (!location && (body || answer.status !== 200)) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
    body = location ? undefined : new URLSearchParams(form);
    url = location ? new URL(location, url) : url;
  }
  return url.searchParams;
}

async function askAsPerson(url, ...who) {
  const authProvider = new Person(...who);
  const first = new StreamableHTTPClientTransport(new URL(url), { authProvider });
  await new Client({ name: 'agent', version: '1.0.0' }).connect(first).catch((error) => {
    if (!(error instanceof UnauthorizedError)) throw error;
  });
  await first.finishAuth(authProvider.answer.get('code'));
  await ask(url, { authProvider });
}

if (mode === 'server') {
  serve();
} else if (mode === 'client') {
  const [url, expectedIssuer, clientId, clientSecret] = args;
  const authProvider = new ClientCredentialsProvider({ clientId, clientSecret, expectedIssuer });
  await ask(url, { authProvider });
} else if (mode === 'person') {
  await askAsPerson(...args);
} else {
  const [url, token] = args;
  await ask(url, { requestInit: { headers: { Authorization: `Bearer ${token}` } } });
}
