// Key sets and tokens as JavaScript's libraries make them. TestLibraries says what is printed here.
import { readFileSync } from 'node:fs'
import { generateKeyPairSync } from 'node:crypto'
import * as jose from 'jose'
import jsonwebtoken from 'jsonwebtoken'
import nodeJose from 'node-jose'

const now = Math.floor(Date.now() / 1000)
const secret = 'f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAof7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo'
const good = { iss: 'https://issuer.test', sub: 'user-alice', aud: 'api', name: 'Zoë <&> "😀"', iat: now, exp: now + 3600 }
const changed = [ // from a good token, and what is right then
  ['several audiences', { aud: ['other', 'api'] }, 200],
  ['fractions', { iat: now - 0.5, exp: now + 3600.5 }, 200],
  ['expired', { exp: now - 3600 }, 401],
  ['not yet', { nbf: now + 3600 }, 401],
  ['another audience', { aud: 'other' }, 401],
  ['another issuer', { iss: 'https://other.test' }, 401],
]
const hmac = ['HS256', 'HS384', 'HS512']
const rsa = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
const elliptic = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }

// library collects what one library makes. sign(alg, header, claims) gives a token; sourceOf says which keys are for an algorithm.
async function library (name, algorithms, sign, sources, sourceOf = () => 'set') {
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)))
  sources.secret = { signingSecret: secret, algorithms: hmac }
  const made = { library: name, version, sources, tokens: [] }
  const add = async (name, token, want = 200, source = 'set') => made.tokens.push({ source, name, token: await token, want })
  for (const alg of hmac) await add(alg, sign(alg, {}, good), 200, 'secret')
  for (const alg of algorithms) await add(alg, sign(alg, {}, good), 200, sourceOf(alg))
  for (const [name, claims, want] of changed) await add(name, sign('ES256', {}, { ...good, ...claims }), want, sourceOf('ES256'))
  await add('at+jwt', sign('ES256', { typ: 'at+jwt' }, good), 200, sourceOf('ES256'))
  await add('another type', sign('ES256', { typ: 'dpop+jwt' }, good), 401, sourceOf('ES256'))
  if (sources.private) await add('a private key in the set', sign('ES256', {}, good), 503, 'private')
  return { made, add }
}

async function ofJose () {
  const keys = {}
  const publicKeys = []
  for (const alg of [...rsa, ...Object.keys(elliptic), 'EdDSA', 'Ed25519', 'RSA-OAEP']) {
    const pair = await jose.generateKeyPair(alg, { extractable: true })
    const jwk = await jose.exportJWK(pair.publicKey)
    keys[alg] = { ...pair, jwk, kid: await jose.calculateJwkThumbprint(jwk) }
    publicKeys.push({ ...jwk, kid: keys[alg].kid, alg, use: alg === 'RSA-OAEP' ? 'enc' : 'sig' })
  }
  const sign = (alg, header, claims) => {
    const hs = hmac.includes(alg)
    return new jose.SignJWT(claims).setProtectedHeader(hs ? { alg } : { alg, kid: keys[alg].kid, ...header })
      .sign(hs ? new TextEncoder().encode(secret) : keys[alg].privateKey)
  }
  const sources = {
    set: { jwks: { keys: publicKeys } },
    private: { jwks: { keys: [await jose.exportJWK(keys.ES256.privateKey)] } },
    PEM: { publicKey: await jose.exportSPKI(keys.PS384.publicKey) },
  }
  const { made, add } = await library('jose', Object.keys(keys).filter(alg => alg !== 'RSA-OAEP'), sign, sources)
  await add('PS384', sign('PS384', {}, good), 200, 'PEM')
  const pem = new TextEncoder().encode(sources.PEM.publicKey)
  for (const source of ['set', 'PEM']) {
    await add('unsigned', new jose.UnsecuredJWT(good).encode(), 401, source)
    const header = { alg: 'HS256', kid: keys.PS384.kid }
    await add('the public key as secret', new jose.SignJWT(good).setProtectedHeader(header).sign(pem), 401, source)
  }
  await add('encrypted', new jose.EncryptJWT(good).setProtectedHeader({ alg: 'RSA-OAEP', enc: 'A128GCM' }).encrypt(keys['RSA-OAEP'].publicKey), 401)
  const carried = { alg: 'ES256', jwk: keys.ES256.jwk }
  await add('a key in the token', new jose.SignJWT(good).setProtectedHeader(carried).sign((await jose.generateKeyPair('ES256')).privateKey), 401)
  return made
}

async function ofJsonwebtoken () { // which has no key sets; keys are Node's
  const pairs = { RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }) }
  for (const [alg, namedCurve] of Object.entries(elliptic)) pairs[alg] = generateKeyPairSync('ec', { namedCurve })
  const pairOf = alg => pairs[alg] ?? pairs.RSA
  const sources = { set: { jwks: { keys: Object.values(pairs).map(pair => pair.publicKey.export({ format: 'jwk' })) } } }
  for (const [name, pair] of Object.entries(pairs)) sources['PEM ' + name] = { publicKey: pair.publicKey.export({ format: 'pem', type: 'spki' }) }
  const sign = (algorithm, header, { iat, ...claims }) => // iat is its own
    jsonwebtoken.sign(claims, hmac.includes(algorithm) ? secret : pairOf(algorithm).privateKey, { algorithm, header })
  const algorithms = [...rsa, ...Object.keys(elliptic)]
  const { made, add } = await library('jsonwebtoken', algorithms, sign, sources)
  for (const alg of algorithms) await add(alg, sign(alg, { kid: 'a name' }, good), 200, 'PEM ' + (pairs[alg] ? alg : 'RSA'))
  for (const source of Object.keys(sources)) {
    await add('unsigned', jsonwebtoken.sign(good, null, { algorithm: 'none' }), 401, source)
  }
  await add('the public key as secret', jsonwebtoken.sign(good, sources['PEM RSA'].publicKey), 401, 'PEM RSA')
  await add('the public key as secret', jsonwebtoken.sign(good, sources['PEM RSA'].publicKey), 401)
  return made
}

async function ofNodeJose () {
  const store = nodeJose.JWK.createKeyStore()
  const keys = { RSA: await store.generate('RSA', 2048, { use: 'sig' }) }
  for (const [alg, curve] of Object.entries(elliptic)) keys[alg] = await store.generate('EC', curve, { alg })
  await store.generate('RSA', 2048, { use: 'enc' })
  const shared = await nodeJose.JWK.asKey({ kty: 'oct', k: Buffer.from(secret).toString('base64url') })
  const sign = (alg, header, claims, encoding = 'utf8') => {
    const key = hmac.includes(alg) ? shared : keys[alg] ?? keys.RSA
    return nodeJose.JWS.createSign({ format: 'compact', fields: { alg, ...header } }, key).update(JSON.stringify(claims), encoding).final()
  }
  const sources = { set: { jwks: store.toJSON() }, private: { jwks: { keys: [keys.ES256.toJSON(true)] } } }
  const { made, add } = await library('node-jose', [...rsa, ...Object.keys(elliptic)], sign, sources)
  await add('claims in Latin 1', sign('ES256', {}, good, 'binary'), 401) // its default
  return made
}

console.log(JSON.stringify([await ofJose(), await ofJsonwebtoken(), await ofNodeJose()]))
