// A client that knows nothing but the API's address and who it is itself: everything else it learns from the API's 401.
//
//   npm install oauth4webapi
//   node client.mjs https://mcp.example.com/mcp CLIENT_ID CLIENT_SECRET
import * as oauth from 'oauth4webapi';

const [resource, clientId, clientSecret] = process.argv.slice(2);
const local = { [oauth.allowInsecureRequests]: resource.startsWith('http:') }; // for a trial on this machine

async function call(token) {
  return oauth.protectedResourceRequest(token, 'GET', new URL(resource), new Headers(), null, local);
}

// 1. The API says no, and where its description is (RFC 9728 5.1).
const refused = await call('none').then(() => { throw new Error('let in without a token'); }, (error) => error);
if (!(refused instanceof oauth.WWWAuthenticateChallengeError)) throw refused;
const { resource_metadata: described } = refused.cause.find(({ scheme }) => scheme === 'bearer').parameters;
console.log('described at', described);

// 2. The description names the authorization server; it must be this API's own (RFC 9728 3.3).
const answer = await oauth.resourceDiscoveryRequest(new URL(resource), local);
if (answer.url && answer.url !== described) throw new Error(`the description is at ${answer.url}`);
const metadata = await oauth.processResourceDiscoveryResponse(new URL(resource), answer);
const issuer = new URL(metadata.authorization_servers[0]);

// 3. The authorization server gives a token for this API and no other (RFC 8707).
const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, local));
const client = { client_id: clientId };
const granted = await oauth.clientCredentialsGrantRequest(
  server, client, oauth.ClientSecretBasic(clientSecret), { resource: metadata.resource, scope: 'read' }, local);
const { access_token: token } = await oauth.processClientCredentialsResponse(server, client, granted);

// 4. With it the API answers.
const result = await call(token);
console.log(result.status, await result.text());
