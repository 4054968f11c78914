import com.auth0.jwt.JWTCreator;
import com.auth0.jwt.algorithms.Algorithm;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.nimbusds.jose.EncryptionMethod;
import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWEAlgorithm;
import com.nimbusds.jose.JWEHeader;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.JWSSigner;
import com.nimbusds.jose.crypto.Ed25519Signer;
import com.nimbusds.jose.crypto.MACSigner;
import com.nimbusds.jose.crypto.RSAEncrypter;
import com.nimbusds.jose.crypto.factories.DefaultJWSSignerFactory;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.KeyUse;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import com.nimbusds.jose.jwk.gen.OctetKeyPairGenerator;
import com.nimbusds.jose.jwk.gen.RSAKeyGenerator;
import com.nimbusds.jwt.EncryptedJWT;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.PlainJWT;
import com.nimbusds.jwt.SignedJWT;
import io.jsonwebtoken.Jwts;
import io.jsonwebtoken.jackson.io.JacksonSerializer;
import io.jsonwebtoken.security.Jwks;
import io.jsonwebtoken.security.Keys;
import java.nio.charset.StandardCharsets;
import java.security.Key;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.interfaces.ECPrivateKey;
import java.security.interfaces.ECPublicKey;
import java.security.interfaces.RSAPrivateKey;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.ECGenParameterSpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jose4j.jwa.AlgorithmConstraints;
import org.jose4j.jwk.EcJwkGenerator;
import org.jose4j.jwk.JsonWebKey;
import org.jose4j.jwk.JsonWebKeySet;
import org.jose4j.jwk.OkpJwkGenerator;
import org.jose4j.jwk.PublicJsonWebKey;
import org.jose4j.jwk.RsaJwkGenerator;
import org.jose4j.jws.JsonWebSignature;
import org.jose4j.jwt.JwtClaims;
import org.jose4j.jwt.NumericDate;
import org.jose4j.keys.EllipticCurves;
import org.jose4j.keys.HmacKey;

/** Key sets and tokens as Java's libraries make them. TestLibraries says what is printed here. */
public class Tokens {
    static final String SECRET = "f7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAof7Qk2vXw9LmZr4TbYc6NpHs1JdGu8eAo";
    static final byte[] SECRET_BYTES = SECRET.getBytes(StandardCharsets.UTF_8);
    static final String NAME = "Zoë <&> \"😀\"";
    static final long NOW = System.currentTimeMillis();
    static final List<String> HMAC = List.of("HS256", "HS384", "HS512");
    static final List<String> RSA = List.of("RS256", "RS384", "RS512", "PS256", "PS384", "PS512");
    static final ObjectMapper JSON = new ObjectMapper();

    /** What is said in a token. Each library writes it by its own means. */
    record Said(String type, String issuer, List<String> audience, Date ends, Date begins) {
        Said() {
            this(null, "https://issuer.test", List.of("api"), new Date(NOW + 3_600_000), null);
        }
    }

    interface Signer {
        String sign(String alg, Said said) throws Exception;
    }

    /** What one library makes. */
    record Library(String library, String version, Map<String, Object> sources, List<Map<String, Object>> tokens) {
        Library(String name, Class<?> some) {
            this(name, some.getProtectionDomain().getCodeSource().getLocation().getPath().replaceAll(".*-([0-9][^-]*)\\.jar", "$1"),
                    new LinkedHashMap<>(), new ArrayList<>());
            sources.put("secret", Map.of("signingSecret", SECRET, "algorithms", HMAC));
        }

        void add(String name, String token, int want, String source) {
            tokens.add(Map.of("name", name, "token", token, "want", want, "source", source));
        }

        void addAll(Signer signer, List<String> algorithms, String source) throws Exception {
            Said good = new Said();
            for (String alg : algorithms) {
                add(alg, signer.sign(alg, good), 200, source);
            }
            for (String alg : HMAC) {
                add(alg, signer.sign(alg, good), 200, "secret");
            }
            add("several audiences", signer.sign("ES256", new Said(null, good.issuer, List.of("other", "api"), good.ends, null)), 200, source);
            add("expired", signer.sign("ES256", new Said(null, good.issuer, good.audience, new Date(NOW - 3_600_000), null)), 401, source);
            add("not yet", signer.sign("ES256", new Said(null, good.issuer, good.audience, good.ends, new Date(NOW + 3_600_000))), 401, source);
            add("another audience", signer.sign("ES256", new Said(null, good.issuer, List.of("other"), good.ends, null)), 401, source);
            add("another issuer", signer.sign("ES256", new Said(null, "https://other.test", good.audience, good.ends, null)), 401, source);
            add("at+jwt", signer.sign("ES256", new Said("at+jwt", good.issuer, good.audience, good.ends, null)), 200, source);
            add("another type", signer.sign("ES256", new Said("dpop+jwt", good.issuer, good.audience, good.ends, null)), 401, source);
        }
    }

    static String pem(PublicKey key) {
        return "-----BEGIN PUBLIC KEY-----\n" + Base64.getMimeEncoder().encodeToString(key.getEncoded()) + "\n-----END PUBLIC KEY-----\n";
    }

    static KeyPair pair(String kind, String curve) throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance(kind);
        if (curve == null) {
            generator.initialize(2048);
        } else {
            generator.initialize(new ECGenParameterSpec(curve));
        }
        return generator.generateKeyPair();
    }

    static Library nimbus() throws Exception {
        Library made = new Library("Nimbus JOSE+JWT", JWSSigner.class);
        Map<String, com.nimbusds.jose.jwk.JWK> keys = new LinkedHashMap<>();
        keys.put("RSA", new RSAKeyGenerator(2048).keyUse(KeyUse.SIGNATURE).keyIDFromThumbprint(true).issueTime(new Date(NOW)).generate());
        keys.put("ES256", new ECKeyGenerator(Curve.P_256).algorithm(JWSAlgorithm.ES256).keyIDFromThumbprint(true).generate());
        keys.put("ES384", new ECKeyGenerator(Curve.P_384).expirationTime(new Date(NOW + 3_600_000)).keyIDFromThumbprint(true).generate());
        keys.put("ES512", new ECKeyGenerator(Curve.P_521).keyIDFromThumbprint(true).generate());
        keys.put("EdDSA", new OctetKeyPairGenerator(Curve.Ed25519).keyIDFromThumbprint(true).generate());
        keys.put("Ed25519", new OctetKeyPairGenerator(Curve.Ed25519).algorithm(JWSAlgorithm.Ed25519).keyIDFromThumbprint(true).generate());
        keys.put("enc", new RSAKeyGenerator(2048).keyUse(KeyUse.ENCRYPTION).generate());
        made.sources.put("set", Map.of("jwks", new JWKSet(new ArrayList<>(keys.values())).toJSONObject()));
        made.sources.put("private", Map.of("jwks", new JWKSet(keys.get("ES256")).toJSONObject(false)));
        Signer signer = (alg, said) -> {
            com.nimbusds.jose.jwk.JWK key = keys.getOrDefault(alg, keys.get("RSA"));
            JWSSigner by = HMAC.contains(alg) ? new MACSigner(SECRET_BYTES) : alg.startsWith("Ed") ? new Ed25519Signer(key.toOctetKeyPair())
                    : new DefaultJWSSignerFactory().createJWSSigner(key, new JWSAlgorithm(alg));
            JWSHeader.Builder header = new JWSHeader.Builder(new JWSAlgorithm(alg)).keyID(HMAC.contains(alg) ? null : key.getKeyID());
            SignedJWT jwt = new SignedJWT(said.type == null ? header.build() : header.type(new JOSEObjectType(said.type)).build(), claims(said));
            jwt.sign(by);
            return jwt.serialize();
        };
        List<String> algorithms = new ArrayList<>(RSA);
        algorithms.addAll(List.of("ES256", "ES384", "ES512", "EdDSA", "Ed25519"));
        made.addAll(signer, algorithms, "set");
        made.add("a private key in the set", signer.sign("ES256", new Said()), 503, "private");
        made.add("unsigned", new PlainJWT(claims(new Said())).serialize(), 401, "set");
        EncryptedJWT encrypted = new EncryptedJWT(new JWEHeader(JWEAlgorithm.RSA_OAEP_256, EncryptionMethod.A128GCM), claims(new Said()));
        encrypted.encrypt(new RSAEncrypter(keys.get("enc").toRSAKey()));
        made.add("encrypted", encrypted.serialize(), 401, "set");
        SignedJWT forged = new SignedJWT(new JWSHeader.Builder(JWSAlgorithm.HS256).keyID(keys.get("RSA").getKeyID()).build(), claims(new Said()));
        forged.sign(new MACSigner(pem(keys.get("RSA").toRSAKey().toPublicKey())));
        made.add("the public key as secret", forged.serialize(), 401, "set");
        return made;
    }

    static JWTClaimsSet claims(Said said) {
        return new JWTClaimsSet.Builder().issuer(said.issuer).subject("user-alice").audience(said.audience).claim("name", NAME)
                .issueTime(new Date(NOW)).expirationTime(said.ends).notBeforeTime(said.begins).build();
    }

    static Library jjwt() throws Exception {
        Library made = new Library("JJWT", Jwks.class);
        Map<String, KeyPair> keys = new LinkedHashMap<>();
        keys.put("RSA", Jwts.SIG.RS256.keyPair().build());
        keys.put("ES256", Jwts.SIG.ES256.keyPair().build());
        keys.put("ES384", Jwts.SIG.ES384.keyPair().build());
        keys.put("ES512", Jwts.SIG.ES512.keyPair().build());
        keys.put("EdDSA", Jwks.CRV.Ed25519.keyPair().build());
        keys.put("Ed448", Jwts.SIG.EdDSA.keyPair().build()); // what it makes without being told a curve
        var set = Jwks.set();
        Map<String, String> names = new LinkedHashMap<>();
        for (var entry : keys.entrySet()) {
            var key = Jwks.builder().key(entry.getValue().getPublic()).idFromThumbprint().publicKeyUse("sig").build();
            set.add(key);
            names.put(entry.getKey(), key.getId());
        }
        made.sources.put("set", Map.of("jwks", read(new JacksonSerializer<>().serialize(set.build()))));
        var secret = Jwks.builder().key((ECPrivateKey) keys.get("ES256").getPrivate()).publicKey((ECPublicKey) keys.get("ES256").getPublic()).build();
        made.sources.put("private", Map.of("jwks", read(("{\"keys\":[" + Jwks.UNSAFE_JSON(secret) + "]}").getBytes(StandardCharsets.UTF_8))));
        Signer signer = (alg, said) -> {
            String of = keys.containsKey(alg) ? alg : "RSA";
            var jwt = Jwts.builder().issuer(said.issuer).subject("user-alice").audience().add(said.audience).and().claim("name", NAME)
                    .issuedAt(new Date(NOW)).expiration(said.ends).notBefore(said.begins);
            if (said.type != null) {
                jwt.header().type(said.type);
            }
            if (HMAC.contains(alg)) {
                return jwt.signWith(Keys.hmacShaKeyFor(SECRET_BYTES), (io.jsonwebtoken.security.MacAlgorithm) Jwts.SIG.get().forKey(alg)).compact();
            }
            jwt.header().keyId(names.get(of));
            PrivateKey key = keys.get(of).getPrivate();
            return alg.startsWith("Ed") ? jwt.signWith(key).compact()
                    : jwt.signWith(key, (io.jsonwebtoken.security.SignatureAlgorithm) Jwts.SIG.get().forKey(alg)).compact();
        };
        List<String> algorithms = new ArrayList<>(RSA);
        algorithms.addAll(List.of("ES256", "ES384", "ES512", "EdDSA"));
        made.addAll(signer, algorithms, "set");
        made.add("EdDSA on Ed448", signer.sign("Ed448", new Said()), 401, "set");
        made.add("a private key in the set", signer.sign("ES256", new Said()), 503, "private");
        made.add("unsigned", Jwts.builder().issuer("https://issuer.test").subject("user-alice").audience().single("api").expiration(new Date(NOW + 3_600_000)).compact(), 401, "set");
        Key forged = Keys.hmacShaKeyFor(pem(keys.get("RSA").getPublic()).getBytes(StandardCharsets.UTF_8));
        made.add("the public key as secret", Jwts.builder().subject("user-alice").expiration(new Date(NOW + 3_600_000)).signWith(forged).compact(), 401, "set");
        return made;
    }

    /** Auth0's, which has no key sets. */
    static Library javaJwt() throws Exception {
        Library made = new Library("java-jwt", JWTCreator.class);
        KeyPair rsa = pair("RSA", null);
        Map<String, KeyPair> elliptic = Map.of("ES256", pair("EC", "secp256r1"), "ES384", pair("EC", "secp384r1"), "ES512", pair("EC", "secp521r1"));
        made.sources.put("PEM RSA", Map.of("publicKey", pem(rsa.getPublic())));
        Signer signer = (alg, said) -> {
            var jwt = com.auth0.jwt.JWT.create().withIssuer(said.issuer).withSubject("user-alice").withAudience(said.audience.toArray(String[]::new))
                    .withClaim("name", NAME).withIssuedAt(new Date(NOW)).withExpiresAt(said.ends).withNotBefore(said.begins);
            if (said.type != null) {
                jwt.withHeader(Map.of("typ", said.type));
            }
            RSAPublicKey n = (RSAPublicKey) rsa.getPublic();
            RSAPrivateKey d = (RSAPrivateKey) rsa.getPrivate();
            ECPrivateKey key = elliptic.containsKey(alg) ? (ECPrivateKey) elliptic.get(alg).getPrivate() : null;
            return jwt.sign(switch (alg) {
                case "HS256" -> Algorithm.HMAC256(SECRET);
                case "HS384" -> Algorithm.HMAC384(SECRET);
                case "HS512" -> Algorithm.HMAC512(SECRET);
                case "RS256" -> Algorithm.RSA256(n, d);
                case "RS384" -> Algorithm.RSA384(n, d);
                case "RS512" -> Algorithm.RSA512(n, d);
                case "ES384" -> Algorithm.ECDSA384(null, key);
                case "ES512" -> Algorithm.ECDSA512(null, key);
                default -> Algorithm.ECDSA256(null, key);
            });
        };
        for (String alg : List.of("RS256", "RS384", "RS512")) {
            made.add(alg, signer.sign(alg, new Said()), 200, "PEM RSA");
        }
        for (String alg : elliptic.keySet()) {
            made.sources.put("PEM " + alg, Map.of("publicKey", pem(elliptic.get(alg).getPublic())));
            made.add(alg, signer.sign(alg, new Said()), 200, "PEM " + alg);
        }
        made.addAll(signer, List.of(), "PEM ES256");
        made.add("unsigned", com.auth0.jwt.JWT.create().withSubject("user-alice").withExpiresAt(new Date(NOW + 3_600_000)).sign(Algorithm.none()), 401, "PEM RSA");
        made.add("the public key as secret", com.auth0.jwt.JWT.create().withSubject("user-alice").withExpiresAt(new Date(NOW + 3_600_000))
                .sign(Algorithm.HMAC256(pem(rsa.getPublic()))), 401, "PEM RSA");
        return made;
    }

    static Library jose4j() throws Exception {
        Library made = new Library("jose4j", JsonWebKey.class);
        Map<String, PublicJsonWebKey> keys = new LinkedHashMap<>();
        keys.put("RSA", RsaJwkGenerator.generateJwk(2048));
        keys.put("ES256", EcJwkGenerator.generateJwk(EllipticCurves.P256));
        keys.put("ES384", EcJwkGenerator.generateJwk(EllipticCurves.P384));
        keys.put("ES512", EcJwkGenerator.generateJwk(EllipticCurves.P521));
        keys.put("EdDSA", OkpJwkGenerator.generateJwk("Ed25519"));
        for (var key : keys.values()) {
            key.setKeyId(key.calculateBase64urlEncodedThumbprint("SHA-256"));
            key.setKeyOps(List.of("verify"));
        }
        made.sources.put("set", Map.of("jwks", read(new JsonWebKeySet(new ArrayList<JsonWebKey>(keys.values())).toJson().getBytes(StandardCharsets.UTF_8))));
        made.sources.put("private", Map.of("jwks", read(new JsonWebKeySet(keys.get("ES256")).toJson(JsonWebKey.OutputControlLevel.INCLUDE_PRIVATE).getBytes(StandardCharsets.UTF_8))));
        Signer signer = (alg, said) -> {
            PublicJsonWebKey key = keys.getOrDefault(alg, keys.get("RSA"));
            return HMAC.contains(alg) ? jose4j(alg, null, new HmacKey(SECRET_BYTES), said) : jose4j(alg, key.getKeyId(), key.getPrivateKey(), said);
        };
        List<String> algorithms = new ArrayList<>(RSA);
        algorithms.addAll(List.of("ES256", "ES384", "ES512", "EdDSA"));
        made.addAll(signer, algorithms, "set");
        made.add("a private key in the set", signer.sign("ES256", new Said()), 503, "private");
        made.add("unsigned", jose4j("none", null, null, new Said()), 401, "set");
        Key forged = new HmacKey(pem(keys.get("RSA").getPublicKey()).getBytes(StandardCharsets.UTF_8));
        made.add("the public key as secret", jose4j("HS256", keys.get("RSA").getKeyId(), forged, new Said()), 401, "set");
        return made;
    }

    static String jose4j(String alg, String kid, Key key, Said said) throws Exception {
        JwtClaims claims = new JwtClaims();
        claims.setIssuer(said.issuer);
        claims.setSubject("user-alice");
        claims.setAudience(said.audience);
        claims.setClaim("name", NAME);
        claims.setIssuedAtToNow();
        claims.setGeneratedJwtId();
        claims.setExpirationTime(NumericDate.fromMilliseconds(said.ends.getTime()));
        if (said.begins != null) {
            claims.setNotBefore(NumericDate.fromMilliseconds(said.begins.getTime()));
        }
        JsonWebSignature jws = new JsonWebSignature();
        jws.setAlgorithmConstraints(AlgorithmConstraints.NO_CONSTRAINTS);
        jws.setAlgorithmHeaderValue(alg);
        jws.setPayload(claims.toJson());
        jws.setKey(key);
        if (kid != null) {
            jws.setKeyIdHeaderValue(kid);
        }
        if (said.type != null) {
            jws.setHeader("typ", said.type);
        }
        return jws.getCompactSerialization();
    }

    static Object read(byte[] json) throws Exception {
        return JSON.readValue(json, Object.class);
    }

    public static void main(String[] args) throws Exception {
        System.out.write(JSON.writeValueAsBytes(List.of(nimbus(), jjwt(), javaJwt(), jose4j())));
        System.out.flush();
    }
}
