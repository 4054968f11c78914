//! Key sets and tokens as Rust's jsonwebtoken makes them. TestLibraries says what is printed here.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{encode, get_current_timestamp, Algorithm, EncodingKey, Header};
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{json, Value};
use std::error::Error;
use Algorithm::*;

const LOCK: &str = include_str!("../Cargo.lock");
const SECRET: &str = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAof7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo";

/// A good token's claims, with those of changed in their place.
fn claims(changed: &Value) -> Value {
    let now = get_current_timestamp();
    let mut claims = json!({"iss": "https://issuer.test", "sub": "user-alice", "aud": "api", "name": "Zoë <&> \"😀\"", "iat": now, "exp": now + 3600});
    for (name, value) in changed.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut random = rand::thread_rng();
    let rsa = rsa::RsaPrivateKey::new(&mut random, 2048)?;
    let p256 = p256::SecretKey::random(&mut random);
    let p384 = p384::SecretKey::random(&mut random);
    let ed25519 = ed25519_dalek::SigningKey::generate(&mut random);
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let keys = [
        (RS256, EncodingKey::from_rsa_der(rsa.to_pkcs1_der()?.as_bytes())),
        (ES256, EncodingKey::from_ec_der(p256.to_pkcs8_der()?.as_bytes())),
        (ES384, EncodingKey::from_ec_der(p384.to_pkcs8_der()?.as_bytes())),
    ];

    let mut set = JwkSet { keys: vec![] };
    let mut tokens = vec![];
    let mut add = |source: &str, name: &str, header: &Header, changed: Value, key: &EncodingKey, want: u16| {
        let token = encode(header, &claims(&changed), key)?;
        tokens.push(json!({"source": source, "name": name, "token": token, "want": want}));
        Ok::<(), Box<dyn Error>>(())
    };
    let same = json!({});
    for (alg, key) in &keys {
        let mut jwk = Jwk::from_encoding_key(key, *alg)?;
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256));
        let named = |alg| Header { kid: jwk.common.key_id.clone(), ..Header::new(alg) };
        add("set", &format!("{alg:?}"), &named(*alg), same.clone(), key, 200)?;
        set.keys.push(jwk);
    }
    for alg in [RS384, RS512, PS256, PS384, PS512] { // the set keeps its RSA key for RS256
        add("PEM RSA", &format!("{alg:?}"), &Header::new(alg), same.clone(), &keys[0].1, 200)?;
        add("set", "a key for another algorithm", &Header::new(alg), same.clone(), &keys[0].1, 401)?;
    }
    let ed = EncodingKey::from_ed_der(ed25519.to_pkcs8_der()?.as_bytes()); // which the library makes no JWK of
    add("PEM EdDSA", "EdDSA", &Header::new(EdDSA), same.clone(), &ed, 200)?;
    for alg in [HS256, HS384, HS512] {
        add("secret", &format!("{alg:?}"), &Header::new(alg), same.clone(), &secret, 200)?;
    }
    let (now, es256) = (get_current_timestamp(), &keys[1].1);
    for (name, changed, want) in [
        ("several audiences", json!({"aud": ["other", "api"]}), 200),
        ("fractions", json!({"iat": now as f64 - 0.5, "exp": now as f64 + 3600.5}), 200),
        ("expired", json!({"exp": now - 3600}), 401),
        ("not yet", json!({"nbf": now + 3600}), 401),
        ("another audience", json!({"aud": "other"}), 401),
        ("another issuer", json!({"iss": "https://other.test"}), 401),
    ] {
        add("set", name, &Header::new(ES256), changed, es256, want)?;
    }
    for (name, typ, want) in [("at+jwt", "at+jwt", 200), ("another type", "dpop+jwt", 401)] {
        add("set", name, &Header { typ: Some(typ.into()), ..Header::new(ES256) }, same.clone(), es256, want)?;
    }
    let pem = rsa.to_public_key().to_public_key_pem(LineEnding::LF)?;
    add("PEM RSA", "the public key as secret", &Header::new(HS256), same, &EncodingKey::from_secret(pem.as_bytes()), 401)?;

    let version = LOCK.split("name = \"jsonwebtoken\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    println!("{}", json!([{
        "library": "jsonwebtoken", "version": version, "tokens": tokens,
        "sources": {
            "set": {"jwks": set},
            "PEM RSA": {"publicKey": pem},
            "PEM EdDSA": {"publicKey": ed25519.verifying_key().to_public_key_pem(LineEnding::LF)?},
            "secret": {"signingSecret": SECRET, "algorithms": ["HS256", "HS384", "HS512"]},
        },
    }]));
    Ok(())
}
