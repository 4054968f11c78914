package parts

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"
)

// KubernetesOptions say how to run a Kubernetes. All are needed.
type KubernetesOptions struct {
	APIServer string // the program; see APIServerPath
	Dir       string // its folder, made if missing
	CA        *CA    // of its certificate
}

// Kubernetes is the part of a cluster that Traefik talks to: etcd and the API server. There are no controllers, so nothing makes
// pods of a Deployment, or EndpointSlices of a Service.
type Kubernetes struct {
	URL          string
	TraefikToken string // of the service account traefik in the namespace traefik, whose rights are given to it by what is applied
	CAFile       string

	token string // lets its bearer do everything

	etcd, server *Process
	client       *http.Client

	mu    sync.Mutex
	kinds map[string]kind // by apiVersion and kind
}

// kind is what the API server calls the objects of one kind.
type kind struct {
	Name       string // in paths: middlewares
	Kind       string
	Namespaced bool
}

// fieldManager is our name in Kubernetes' record of who has set what.
const fieldManager = "e2e"

// StartKubernetes runs etcd and the API server on free ports of 127.0.0.1 until Stop.
func StartKubernetes(o KubernetesOptions) (*Kubernetes, error) {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	// A free port may be taken before it is listened on, so it is tried more than once.
	for attempt := 1; ; attempt++ {
		k, err := startKubernetes(o)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "address already in use") {
			return k, err
		}
	}
}

func startKubernetes(o KubernetesOptions) (*Kubernetes, error) {
	k := &Kubernetes{
		token: rand.Text(), TraefikToken: rand.Text(), CAFile: filepath.Join(o.Dir, "ca.pem"), kinds: map[string]kind{},
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: o.CA.Pool()}}},
	}
	err := os.WriteFile(k.CAFile, []byte(o.CA.PEM), 0o600)
	if err != nil {
		return nil, err
	}
	store, err := k.startEtcd(o.Dir)
	if err == nil {
		err = k.startServer(o, store)
	}
	if err != nil {
		k.Stop()
		return nil, err
	}
	return k, nil
}

// startEtcd runs the store of the API server and returns its address.
func (k *Kubernetes) startEtcd(dir string) (string, error) {
	path, err := Find("etcd")
	if err != nil {
		return "", err
	}
	client, err := addrOr("")
	if err != nil {
		return "", err
	}
	peer, err := addrOr("")
	if err != nil {
		return "", err
	}
	client, peer = "http://"+client, "http://"+peer
	k.etcd, err = StartProcess(Command{
		Name: "etcd", Path: path, Dir: dir, LogFile: filepath.Join(dir, "etcd.log"),
		Args: []string{
			"--data-dir=etcd", "--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		},
	})
	if err != nil {
		return "", err
	}
	return client, k.etcd.WaitFor("its health", 30*time.Second, func() bool {
		resp, err := k.client.Get(client + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
}

// startServer runs the API server, which asks for rights (RBAC).
func (k *Kubernetes) startServer(o KubernetesOptions, store string) error {
	addr, err := addrOr("")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if err := k.writeServerFiles(o); err != nil {
		return err
	}
	k.URL = "https://" + addr
	k.server, err = StartProcess(Command{
		Name: "kube-apiserver", Path: o.APIServer, Dir: o.Dir, LogFile: filepath.Join(o.Dir, "kube-apiserver.log"),
		Args: []string{
			"--etcd-servers=" + store, "--bind-address=127.0.0.1", "--secure-port=" + port, "--cert-dir=.",
			"--tls-cert-file=server.pem", "--tls-private-key-file=server-key.pem",
			"--authorization-mode=RBAC", "--token-auth-file=tokens.csv", "--anonymous-auth=false",
			// The controller that gives every namespace its ServiceAccount is not there to be waited for.
			"--disable-admission-plugins=ServiceAccount", "--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=accounts-key.pem", "--service-account-signing-key-file=accounts-key.pem",
			// The API server's own address would be an endpoint, and 127.0.0.1 may not be one.
			"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
		},
	})
	if err != nil {
		return err
	}
	return k.server.WaitFor("it was ready", time.Minute, func() bool {
		_, err := k.do(http.MethodGet, "/readyz", "", nil)
		return err == nil
	})
}

// writeServerFiles makes the API server's keys, and the list of who it knows.
func (k *Kubernetes) writeServerFiles(o KubernetesOptions) error {
	certificate, key, err := o.CA.Issue("127.0.0.1")
	if err != nil {
		return err
	}
	accounts, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"server.pem": certificate, "server-key.pem": key, "tokens.csv": k.token + ",e2e,1,system:masters\n" + k.TraefikToken + ",system:serviceaccount:traefik:traefik,2,system:serviceaccounts\n",
		"accounts-key.pem": encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(accounts)),
	} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends both programs.
func (k *Kubernetes) Stop() {
	for _, process := range []*Process{k.server, k.etcd} {
		if process != nil {
			process.Stop()
		}
	}
}

// Apply does what kubectl apply --server-side does with manifests; those without a namespace go to the given one.
func (k *Kubernetes) Apply(namespace, manifests string) error {
	decoder := yaml.NewDecoder(strings.NewReader(manifests))
	for {
		var object map[string]any
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if object == nil {
			continue // an empty document
		}
		if err := k.apply(namespace, object); err != nil {
			return err
		}
	}
}

func (k *Kubernetes) apply(namespace string, object map[string]any) error {
	metadata, _ := object["metadata"].(map[string]any)
	if own, ok := metadata["namespace"].(string); ok {
		namespace = own
	}
	path, err := k.path(fmt.Sprint(object["apiVersion"]), fmt.Sprint(object["kind"]), namespace, fmt.Sprint(metadata["name"]))
	if err != nil {
		return err
	}
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	query := "?fieldManager=" + fieldManager + "&force=true&fieldValidation=Strict"
	if _, err := k.do(http.MethodPatch, path+query, "application/apply-patch+yaml", body); err != nil {
		return err
	}
	if object["kind"] == "CustomResourceDefinition" {
		return k.established(path)
	}
	return nil
}

// Delete takes an object away.
func (k *Kubernetes) Delete(apiVersion, kind, namespace, name string) error {
	path, err := k.path(apiVersion, kind, namespace, name)
	if err != nil {
		return err
	}
	_, err = k.do(http.MethodDelete, path, "", nil)
	return err
}

// Get reads an object.
func (k *Kubernetes) Get(apiVersion, kind, namespace, name string, object any) error {
	path, err := k.path(apiVersion, kind, namespace, name)
	if err != nil {
		return err
	}
	body, err := k.do(http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, object)
}

// AccountToken has the API server issue a token of a service account for an audience (TokenRequest).
func (k *Kubernetes) AccountToken(namespace, name, audience string) (string, error) {
	request, err := json.Marshal(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"audiences": []string{audience}},
	})
	if err != nil {
		return "", err
	}
	body, err := k.do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token", "application/json", request)
	if err != nil {
		return "", err
	}
	var answer struct{ Status struct{ Token string } }
	err = json.Unmarshal(body, &answer)
	return answer.Status.Token, err
}

// established waits until the API server serves a new kind.
func (k *Kubernetes) established(path string) error {
	return k.server.WaitFor("serving "+path, 20*time.Second, func() bool {
		var definition struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
		body, err := k.do(http.MethodGet, path, "", nil)
		if err != nil || json.Unmarshal(body, &definition) != nil {
			return false
		}
		for _, condition := range definition.Status.Conditions {
			if condition.Type == "Established" && condition.Status == "True" {
				return true
			}
		}
		return false
	})
}

// path is where the API server has an object.
func (k *Kubernetes) path(apiVersion, kindName, namespace, name string) (string, error) {
	group := "/apis/" + apiVersion
	if !strings.Contains(apiVersion, "/") {
		group = "/api/" + apiVersion
	}
	found, err := k.kind(group, kindName)
	if err != nil {
		return "", err
	}
	if found.Namespaced {
		group += "/namespaces/" + namespace
	}
	return group + "/" + found.Name + "/" + name, nil
}

// kind asks the API server what it calls a kind, once.
func (k *Kubernetes) kind(group, name string) (kind, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, known := k.kinds[group+" "+name]; known {
		return found, nil
	}
	body, err := k.do(http.MethodGet, group, "", nil)
	if err != nil {
		return kind{}, err
	}
	var list struct{ Resources []kind }
	if err := json.Unmarshal(body, &list); err != nil {
		return kind{}, err
	}
	for _, found := range list.Resources {
		if found.Kind == name && !strings.Contains(found.Name, "/") { // the others are parts of an object
			k.kinds[group+" "+name] = found
			return found, nil
		}
	}
	return kind{}, fmt.Errorf("no %s among what %s has", name, group)
}

// do asks the API server.
func (k *Kubernetes) do(method, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, k.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+k.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}

// ModuleDir is the folder of a module that the module in a folder of ours depends on.
func ModuleDir(folder, module string) (string, error) {
	if err := layOutLego(folder); err != nil {
		return "", err
	}
	text, err := output(folder, "go", "mod", "download", "-json", module)
	if err != nil {
		return "", err
	}
	var download struct{ Dir string }
	if err := json.Unmarshal([]byte(text), &download); err != nil {
		return "", err
	}
	return download.Dir, nil
}
