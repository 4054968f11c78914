package oidc

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestIDToken(t *testing.T) {
	hour := int64(3600)
	now := time.Now().Unix()
	set := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	without := func(name string) func(map[string]any) {
		return func(c map[string]any) { delete(c, name) }
	}
	of := func(audience ...string) func(map[string]any) {
		return func(c map[string]any) { c["aud"], c["azp"] = audience, "app" }
	}
	for _, c := range []struct {
		name    string
		edit    func(map[string]any)
		options map[string]any
		want    string // in the log; "": the sign-in succeeds
	}{
		{"for someone else", set("aud", "other-app"), nil, `audience: expected "app"`},
		{"for several, one a stranger", of("app", "stranger"), nil, "audience"},
		{"for several, all trusted", of("app", "friend"), map[string]any{"trustedAudiences": "friend"}, ""},
		{"for nobody", set("aud", []string{}), nil, "audience"},
		{"no audience", set("aud", nil), nil, "audience"},
		{"made for another party", set("azp", "other-app"), nil, "azp"},
		{"of another issuer", set("iss", "https://evil.example.com"), nil, "issuer"},
		{"of the trusted issuer", set("iss", "https://other.example.com"), map[string]any{"trustedIssuer": "https://other.example.com"}, ""},
		{"of any issuer, unchecked", set("iss", "https://any.example.com"), map[string]any{"disableIssuerCheck": true}, ""},
		{"no subject", set("sub", ""), nil, "sub"},
		{"a number for a subject", set("sub", 7), nil, "sub"},
		{"a subject of 300 bytes", set("sub", strings.Repeat("a", 300)), nil, "sub"},
		{"ended", set("exp", now-hour), nil, "exp"},
		{"no end", without("exp"), nil, "exp"},
		{"an end beyond numbers", set("exp", 1e300), nil, "exp"},
		{"issued in an hour", set("iat", now+hour), nil, "iat"},
		{"issued 30 s ahead of us", set("iat", now+30), nil, ""},
		{"issued an hour ago", set("iat", now-hour), nil, "iat"},
		{"no time of issue", without("iat"), nil, "iat"},
		{"another nonce", set("nonce", "other"), nil, "nonce"},
		{"no nonce", without("nonce"), nil, "nonce"},
		{"hash of another access token", set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), nil, "at_hash"},
		{"a logout token", set("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), nil, "events"},
		{"no authentication time though asked", without("auth_time"), map[string]any{"maxAge": 60}, "auth_time"},
		{"signed in too long ago", set("auth_time", now-hour), map[string]any{"maxAge": 60}, "auth_time"},
		{"signed in lately", set("auth_time", now-30), map[string]any{"maxAge": 60}, ""},
		{"level too low", set("acr", "bronze"), map[string]any{"acrValues": "gold,silver"}, "acr"},
		{"no level", func(c map[string]any) {}, map[string]any{"acrValues": "gold"}, "acr"},
		{"level high enough", set("acr", "silver"), map[string]any{"acrValues": "gold,silver"}, ""},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			p.edit("id_token", c.edit)
			s := start(t, p.options(map[string]any{"userinfo": true}, c.options))
			b := newBrowser(t, s)
			if c.want == "" {
				b.signIn("/page")
				return
			}
			b.open("/page").expect(http.StatusBadGateway)
			if b.cookie(s.sessionCookie()) != nil || p.count("userinfo") > 0 {
				t.Error("there is a session, or the access token was used")
			}
			s.expectLog("id token", c.want)
		})
	}
}

func TestIDTokenAlgorithms(t *testing.T) {
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		alg := alg
		t.Run(alg, func(t *testing.T) {
			p := newFakeProvider(t)
			p.useAlg(alg)
			newBrowser(t, start(t, p.options())).signIn("/") // what the provider lists
			s := start(t, p.options(map[string]any{"idTokenSigningAlg": alg, "clientConfig": map[string]any{"timeoutSeconds": 4}}))
			newBrowser(t, s).signIn("/")
			refusesBadSignature(t, p, s)
		})
	}
	t.Run("HS256 when it is named", func(t *testing.T) {
		p := newFakeProvider(t)
		p.clientSecret = strings.Repeat("long-enough-", 4)
		p.useAlg("HS256")
		s := start(t, p.options(map[string]any{"idTokenSigningAlg": "HS256"}))
		newBrowser(t, s).signIn("/")
		refusesBadSignature(t, p, s)
	})
}

func TestIDTokenSignatureIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		bend func(p *fakeProvider)
		want string
	}{
		{"HS256 with the secret though not named", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "HS256", private: []byte(strings.Repeat("long enough ", 4))}
		}, "alg"},
		{"HS256 with the public key", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "HS256", private: []byte(fmt.Sprint(p.keySet()))}
		}, "alg"},
		{"none", func(p *fakeProvider) { p.edit("header", func(h map[string]any) { h["alg"] = "none" }) }, "alg"},
		{"no signature at all", func(p *fakeProvider) { p.key = &providerKey{alg: "none"} }, "alg"},
		{"nOnE", func(p *fakeProvider) { p.edit("header", func(h map[string]any) { h["alg"] = "nOnE" }) }, "alg"},
		{"a member of another family", func(p *fakeProvider) { p.key = &providerKey{kid: "one", alg: "ES256", private: commonKey("ES256")} }, "alg"},
		{"a stranger's key under our key's name", func(p *fakeProvider) {
			p.key = &providerKey{kid: "one", alg: "RS256", private: newPrivateKey("RS256")}
		}, "signature"},
		{"a key the provider does not have", func(p *fakeProvider) {
			p.key = &providerKey{kid: "two", alg: "RS256", private: newPrivateKey("RS256")}
		}, "two"},
		{"a key in the token itself", func(p *fakeProvider) {
			p.key = &providerKey{kid: "two", alg: "RS256", private: newPrivateKey("RS256")}
			p.edit("header", func(h map[string]any) { h["jwk"] = p.key.public(); delete(h, "kid") })
		}, "id token"},
		{"crit", func(p *fakeProvider) {
			p.edit("header", func(h map[string]any) { h["crit"] = []string{"x"}; h["x"] = 1 })
		}, "crit"},
		{"a key for encryption", func(p *fakeProvider) {
			p.edit("jwks", func(d map[string]any) {
				d["keys"].([]any)[0].(map[string]any)["use"] = "enc"
			})
		}, "id token"},
		{"an encrypted token", func(p *fakeProvider) {
			p.edit("token", func(d map[string]any) { d["id_token"] = d["id_token"].(string) + ".a.b" })
		}, "id token"},
		{"a line break in the token", func(p *fakeProvider) {
			p.edit("token", func(d map[string]any) {
				d["id_token"] = d["id_token"].(string)[:40] + "\n" + d["id_token"].(string)[40:]
			})
		}, "id token"},
		{"a claim twice", func(p *fakeProvider) {
			p.edit("token", func(d map[string]any) {
				claims := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"` + p.issuer + `","sub":"ada","sub":"eve"}`))
				signed := strings.Split(d["id_token"].(string), ".")[0] + "." + claims
				d["id_token"] = signed + "." + base64.RawURLEncoding.EncodeToString(p.key.sign(signed))
			})
		}, "id token"},
	} {
		c := c
		t.Run(c.name, func(t *testing.T) {
			p := newFakeProvider(t)
			c.bend(p)
			s := start(t, p.options(map[string]any{"userinfo": true}))
			b := newBrowser(t, s)
			r := b.open("/page")
			if r.isUpstream() || b.cookie(s.sessionCookie()) != nil || r.status < 400 || p.count("userinfo") > 0 {
				t.Errorf("the token was accepted: %s", r.trail)
			}
			s.expectLog("id token", c.want)
		})
	}
}

// refusesBadSignature tries an ID token whose signature has one other character.
func refusesBadSignature(t *testing.T, p *fakeProvider, s *testSite) {
	t.Helper()
	p.edit("token", func(d map[string]any) {
		raw := d["id_token"].(string)
		at := strings.LastIndex(raw, ".")
		d["id_token"] = raw[:at] + flipped(raw[at:])
	})
	newBrowser(t, s).open("/").expect(http.StatusBadGateway)
	s.expectLog("id token: signature: does not match")
}

func TestIDTokenClockDifference(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-30 * time.Second, 30 * time.Second} {
		p := newFakeProvider(t)
		p.clockSkew = skew
		newBrowser(t, start(t, p.options())).signIn("/")
	}
	p := newFakeProvider(t)
	p.clockSkew = 5 * time.Minute
	s := start(t, p.options())
	newBrowser(t, s).open("/").expect(http.StatusBadGateway)
	s.expectLog("id token", "iat")
}
