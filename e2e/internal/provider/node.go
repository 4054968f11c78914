package provider

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// NodeOptions say what npm oidc-provider should be like, and of which version; see e2e/node/provider.mjs.
type NodeOptions struct {
	Root    string // of the repository
	LogFile string
	TLS     *tls.Config
	Users   []User // default Alice and Bob
	// Clients are registrations by the names of OpenID Connect Dynamic Client Registration 1.0.
	Clients []map[string]any
	// Settings are further members of the script's argument.
	Settings map[string]any
}

// Node is a running npm oidc-provider, behind a Front of ours.
type Node struct {
	*Front
	Issuer string

	process *parts.Process
	server  *http.Server
}

// StartNode runs a provider until Stop.
func StartNode(o NodeOptions) (*Node, error) {
	node, err := parts.Find("node")
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(o.Root, "e2e", "node")
	if err := parts.InstallNodeModules(folder); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &Node{Issuer: "http://" + listener.Addr().String()}
	if o.TLS != nil {
		n.Issuer = "https://" + listener.Addr().String()
		listener = tls.NewListener(listener, o.TLS)
	}
	argument, err := nodeArgument(n.Issuer, o)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	n.process, err = parts.StartProcess(parts.Command{
		Name: "oidc-provider", Path: node, Args: []string{"provider.mjs", argument}, Dir: folder, LogFile: o.LogFile,
		Env: []string{"NODE_NO_WARNINGS=1"},
	})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	port, err := n.port()
	if err != nil {
		n.process.Stop()
		return nil, errors.Join(err, listener.Close())
	}
	n.Front = NewFront(nodeProxy(port))
	n.server = &http.Server{Handler: n.Front, ReadHeaderTimeout: 10 * time.Second}
	go n.server.Serve(listener)
	return n, nil
}

// nodeArgument is the JSON text that provider.mjs takes.
func nodeArgument(issuer string, o NodeOptions) (string, error) {
	if o.Users == nil {
		o.Users = []User{Alice, Bob}
	}
	users := []map[string]any{}
	for _, user := range o.Users {
		users = append(users, map[string]any{"name": user.Name, "password": user.Password, "claims": user.Claims})
	}
	if o.Clients == nil {
		o.Clients = []map[string]any{}
	}
	settings := map[string]any{"issuer": issuer, "users": users, "clients": o.Clients}
	for name, value := range o.Settings {
		settings[name] = value
	}
	text, err := json.Marshal(settings)
	return string(text), err
}

// port reads the first line that the script prints by itself; its library warns before.
func (n *Node) port() (int, error) {
	port := 0
	err := n.process.WaitFor("it told its port", 30*time.Second, func() bool {
		for line := range strings.Lines(n.process.Log(0)) {
			if number, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				port = number
				return true
			}
		}
		return false
	})
	return port, err
}

// nodeProxy passes requests on under the name they came with, and tells the first name of a client's certificate.
func nodeProxy(port int) http.Handler {
	target := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
		r.Out.Header.Del("X-Client-Name")
		if r.In.TLS != nil && len(r.In.TLS.PeerCertificates) > 0 {
			r.Out.Header.Set("X-Client-Name", r.In.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}}
}

// Stop ends the provider.
func (n *Node) Stop() {
	n.server.Close()
	n.process.Stop()
}

// LogText is what the script printed.
func (n *Node) LogText() string { return n.process.Log(0) }
