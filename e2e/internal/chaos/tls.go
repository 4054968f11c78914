package chaos

import (
	"crypto/tls"
	"os"
	"path/filepath"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// certify gives a server a certificate of this authority, for its next start.
func (n *node) certify(ca *parts.CA) error {
	certificate, key, err := ca.Issue(ownHost)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"cert.pem": certificate, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// tlsConfig is that of this process, which talks to its own child.
func (n *node) tlsConfig() *tls.Config {
	if !n.tls {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true}
}
