"""Key sets and tokens as Python's libraries make them. TestLibraries says what is printed here."""

import json
import time
from datetime import datetime, timezone
from importlib.metadata import version

import jose.jwk
import jose.jwt
import joserfc.jwe
import joserfc.jwk
import joserfc.jwt
import jwcrypto.jwe
import jwcrypto.jwk
import jwcrypto.jwt
import jwt
from authlib.jose import JsonWebEncryption, JsonWebKey, JsonWebToken, KeySet
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

NOW = int(time.time())
SECRET = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAof7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo"
GOOD = {"iss": "https://issuer.test", "sub": "user-alice", "aud": "api", "name": 'Zoë <&> "😀"', "iat": NOW, "exp": NOW + 3600}
CHANGED = {  # from a good token, and what is right then
    "several audiences": ({"aud": ["other", "api"]}, 200),
    "fractions": ({"iat": NOW - 0.5, "exp": NOW + 3600.5}, 200),
    "expired": ({"exp": NOW - 3600}, 401),
    "not yet": ({"nbf": NOW + 3600}, 401),
    "another audience": ({"aud": "other"}, 401),
    "another issuer": ({"iss": "https://other.test"}, 401),
}
HMAC = ["HS256", "HS384", "HS512"]
RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

libraries = []


def library(name, sign, keys, sources, secret):
    """Collects what one library makes. sign(alg, key, header, claims) gives a token, keys are by algorithm."""
    made = {"library": name, "version": version(name), "sources": sources, "tokens": []}
    libraries.append(made)
    sources["secret"] = {"signingSecret": SECRET, "algorithms": HMAC}

    def add(name, token, want=200, source="set"):
        token = token.decode() if isinstance(token, bytes) else token
        made["tokens"].append({"source": source, "name": name, "token": token, "want": want})

    for alg in HMAC:
        add(alg, sign(alg, secret, {}, GOOD), source="secret")
    for alg, key in keys.items():
        add(alg, sign(alg, key, {}, GOOD), 200 if alg not in ("ES256K", "Ed448") else 401)
    for change, (claims, want) in CHANGED.items():
        add(change, sign("ES256", keys["ES256"], {}, GOOD | claims), want)
    add("at+jwt", sign("ES256", keys["ES256"], {"typ": "at+jwt"}, GOOD))
    add("another type", sign("ES256", keys["ES256"], {"typ": "dpop+jwt"}, GOOD), 401)
    if "private" in sources:
        add("a private key in the set", sign("ES256", keys["ES256"], {}, GOOD), 503, "private")
    return add


def of_cryptography():
    private = {alg: rsa.generate_private_key(65537, 2048) for alg in ["RS256"]}
    for alg, curve in {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1(), "ES256K": ec.SECP256K1()}.items():
        private[alg] = ec.generate_private_key(curve)
    return private


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def pyjwt():
    keys = of_cryptography()
    keys["EdDSA"] = ed25519.Ed25519PrivateKey.generate()
    made = jwt.algorithms.get_default_algorithms()
    published = [made[alg].to_jwk(key.public_key(), as_dict=True) for alg, key in keys.items()]
    private = [made["ES256"].to_jwk(keys["ES256"], as_dict=True)]
    keys |= {alg: keys["RS256"] for alg in RSA}

    def sign(alg, key, header, claims):  # dates as datetime, the way of its manual
        dates = {name: datetime.fromtimestamp(claims[name], timezone.utc) for name in ("iat", "exp", "nbf") if name in claims}
        return jwt.encode(claims | dates, key, alg, header)

    sources = {"set": {"jwks": {"keys": published}}, "private": {"jwks": {"keys": private}}, "PEM": {"publicKey": public_pem(keys["RS256"]).decode()}}
    add = library("PyJWT", sign, keys, sources, SECRET)
    add("PS256", sign("PS256", keys["RS256"], {}, GOOD), 200, "PEM")
    for source in "set", "PEM", "secret":
        add("unsigned", jwt.encode(GOOD, None, "none"), 401, source)


def authlib():
    keys = {"RS256": JsonWebKey.generate_key("RSA", 2048, {"use": "sig"}, is_private=True)}
    for alg, curve in (CURVES | {"ES256K": "secp256k1"}).items():
        keys[alg] = JsonWebKey.generate_key("EC", curve, {"alg": alg}, is_private=True)
    keys["EdDSA"] = JsonWebKey.generate_key("OKP", "Ed25519", is_private=True)
    encryption = JsonWebKey.generate_key("EC", "P-256", {"use": "enc"}, is_private=True)
    whole = KeySet([*keys.values(), encryption])
    private = KeySet([keys["ES256"]]).as_dict(is_private=True)
    keys |= {alg: keys["RS256"] for alg in RSA}
    maker = JsonWebToken([*keys, *HMAC, "none"])

    def sign(alg, key, header, claims):
        named = {} if isinstance(key, str) else {"kid": key.thumbprint()}
        return maker.encode({"alg": alg} | named | header, dict(claims), key)

    add = library("Authlib", sign, keys, {"set": {"jwks": whole.as_dict(is_private=False)}, "private": {"jwks": private}}, SECRET)
    add("unsigned", maker.encode({"alg": "none"}, dict(GOOD), ""), 401)
    add("encrypted", JsonWebEncryption().serialize_compact({"alg": "ECDH-ES", "enc": "A128GCM"}, json.dumps(GOOD).encode(), encryption), 401)


def of_joserfc():
    generate = joserfc.jwk
    keys = {alg: generate.RSAKey.generate_key(2048, {"alg": alg, "use": "sig"}, auto_kid=True) for alg in ["RS256", "PS256"]}
    for alg, curve in (CURVES | {"ES256K": "secp256k1"}).items():
        keys[alg] = generate.ECKey.generate_key(curve, {"key_ops": ["sign", "verify"]}, auto_kid=True)
    for alg, curve in {"EdDSA": "Ed25519", "Ed25519": "Ed25519", "Ed448": "Ed448"}.items():
        keys[alg] = generate.OKPKey.generate_key(curve, {"alg": alg}, auto_kid=True)
    keys["RS384"] = keys["RS512"] = keys["PS384"] = keys["PS512"] = generate.RSAKey.generate_key(3072, auto_kid=True)
    whole = generate.KeySet([*{key.kid: key for key in keys.values()}.values()])
    private = generate.KeySet([keys["ES256"]]).as_dict(private=True)

    def sign(alg, key, header, claims):
        return joserfc.jwt.encode({"alg": alg} | ({"kid": key.kid} if key.kid else {}) | header, claims, key, [alg])

    sources = {"set": {"jwks": whole.as_dict()}, "private": {"jwks": private}}
    add = library("joserfc", sign, keys, sources, generate.OctKey.import_key(SECRET))
    empty = generate.OctKey.import_key("ignored")
    add("unsigned", joserfc.jwt.encode({"alg": "none"}, GOOD, empty, ["none"]), 401)
    add("a critical extension", sign("ES256", keys["ES256"], {"crit": ["b64"], "b64": True}, GOOD), 401)
    registry = joserfc.jwe.JWERegistry(algorithms=["RSA-OAEP", "A128GCM"])
    add("encrypted", joserfc.jwt.encode({"alg": "RSA-OAEP", "enc": "A128GCM"}, GOOD, keys["RS384"], registry=registry), 401)


def python_jose():
    pems = {alg: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for alg, key in of_cryptography().items() if alg != "ES256K"}
    keys = {alg: jose.jwk.construct(pem, alg) for alg, pem in pems.items()}
    published = [key.public_key().to_dict() | {"kid": alg} for alg, key in keys.items()]
    private = [keys["ES256"].to_dict()]
    published[0].pop("alg")
    keys |= {"RS384": keys["RS256"], "RS512": keys["RS256"]}

    def sign(alg, key, header, claims):
        kid = {"kid": "RS256" if alg[:2] == "RS" else alg} if alg[:2] != "HS" else {}
        return jose.jwt.encode(claims, key if isinstance(key, str) else key.to_dict(), alg, kid | header)

    library("python-jose", sign, keys, {"set": {"jwks": {"keys": published}}, "private": {"jwks": {"keys": private}}}, SECRET)


def of_jwcrypto():
    generate = jwcrypto.jwk.JWK.generate
    keys = {"RS256": generate(kty="RSA", size=2048, use="sig"), "EdDSA": generate(kty="OKP", crv="Ed25519")}
    for alg, curve in (CURVES | {"ES256K": "secp256k1"}).items():
        keys[alg] = generate(kty="EC", crv=curve)
    keys["Ed448"] = generate(kty="OKP", crv="Ed448")
    whole, private = jwcrypto.jwk.JWKSet(), jwcrypto.jwk.JWKSet()
    for key in keys.values():
        key.kid = key.thumbprint()
        whole.add(key)
    private.add(keys["ES256"])
    keys["Ed25519"] = keys["EdDSA"]
    keys |= {alg: keys["RS256"] for alg in RSA}

    def sign(alg, key, header, claims):
        token = jwcrypto.jwt.JWT(header={"alg": alg} | ({"kid": key["kid"]} if "kid" in key else {}) | header, claims=claims, algs=[alg])
        token.make_signed_token(key)
        return token.serialize()

    sources = {"set": {"jwks": whole.export(private_keys=False, as_dict=True)}, "private": {"jwks": private.export(as_dict=True)}}
    add = library("jwcrypto", sign, keys, sources, jwcrypto.jwk.JWK.from_password(SECRET))
    forged = jwcrypto.jwk.JWK.from_password(keys["RS256"].export_to_pem().decode())
    forged.kid = keys["RS256"].kid
    add("the public key as secret", sign("HS256", forged, {}, GOOD), 401)
    encrypted = jwcrypto.jwt.JWT(header={"alg": "ECDH-ES", "enc": "A256GCM"}, claims=sign("ES256", keys["ES256"], {}, GOOD))
    encrypted.make_encrypted_token(keys["ES384"])
    add("encrypted", encrypted.serialize(), 401)


for make in pyjwt, authlib, of_joserfc, python_jose, of_jwcrypto:
    make()
print(json.dumps(libraries))
