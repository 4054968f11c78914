package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/traefik-oidc/oidc/e2e/internal/parts"
)

// This file is what the bench has of Redis: the server, a count of Traefik's connections to it, and many sessions out of one.

const poolLimit = 32 // connections of one Traefik to one Redis server, as docs/scaling.md has it

// redisServer is a redis-server of ours.
type redisServer struct {
	*parts.Process
	address string
}

func startRedis(dir string) (*redisServer, error) {
	binary, err := parts.Find("redis-server")
	if err != nil {
		return nil, err
	}
	port, err := parts.FreePort()
	if err != nil {
		return nil, err
	}
	r := &redisServer{address: "127.0.0.1:" + strconv.Itoa(port)}
	r.Process, err = parts.StartProcess(parts.Command{Name: "Redis", Path: binary, Dir: dir, LogFile: filepath.Join(dir, "redis.log"),
		Args: []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir}})
	if err != nil {
		return nil, err
	}
	return r, r.WaitFor("it answered", 10*time.Second, func() bool {
		answer, err := r.ask("PING")
		return err == nil && answer == "PONG"
	})
}

// options are those of a middleware that keeps its sessions there.
func (r *redisServer) options(cacheSeconds int) map[string]any {
	return map[string]any{"store": map[string]any{"cacheSeconds": cacheSeconds, "redis": map[string]any{"endpoints": []string{r.address}}}}
}

// ask sends one command, of words without blanks, over a connection of its own.
func (r *redisServer) ask(command string) (string, error) {
	conn, err := net.DialTimeout("tcp", r.address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	return askOver(conn, bufio.NewReader(conn), command)
}

// askOver reads a text, short or long, as the answer.
func askOver(conn net.Conn, from *bufio.Reader, command string) (string, error) {
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return "", err
	}
	line, err := from.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if line[0] != '$' {
		if line[0] == '-' {
			return "", fmt.Errorf("answer of Redis: %s", line)
		}
		return line[1:], nil
	}
	size, err := strconv.Atoi(line[1:])
	if err != nil || size < 0 {
		return "", fmt.Errorf("answer of Redis to %s: %s", strings.Fields(command)[0], line)
	}
	text := make([]byte, size+2)
	_, err = io.ReadFull(from, text)
	return string(text[:size]), err
}

// connections counts all but the one that asks.
func (r *redisServer) connections() (int, error) {
	list, err := r.ask("CLIENT LIST")
	return strings.Count(list, "\n") - 1, err
}

// watchConnections counts Traefik's connections all the time until stop is called, which gives the most there were.
func (r *redisServer) watchConnections() (stop func() (int, error)) {
	var ended atomic.Bool
	var wait sync.WaitGroup
	var most int
	var failed error
	wait.Go(func() {
		for !ended.Load() && failed == nil {
			var count int
			if count, failed = r.connections(); count > most {
				most = count
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() (int, error) {
		ended.Store(true)
		wait.Wait()
		return most, failed
	}
}

// measurePool sends more requests at once than the pool has places, all of which need Redis, and fails when there were more connections.
func (b *bench) measurePool() (int, error) {
	progress("connections to Redis")
	b.traefiks[redisCrowd].Stop() // it has some, too
	time.Sleep(time.Second)
	stop := b.redis.watchConnections()
	_, err := b.send(b.reading, 4*poolLimit, b.seconds)
	most, countErr := stop()
	progress("")
	if err == nil {
		err = countErr
	}
	if err == nil && (most == 0 || most > poolLimit) {
		err = fmt.Errorf("connections to Redis: expected 1 to %d, counted %d", poolLimit, most)
	}
	return most, err
}

// sessionsCost is the memory of a Traefik that has seen many sessions, over that of one which has seen as many requests with one.
type sessionsCost struct {
	Sessions int     `json:"sessions"`
	Redis    float64 `json:"redisMB"`
	Cookies  float64 `json:"cookiesMB"`
}

const liveSessions = 10000

// measureSessions has a fresh Traefik for each store.
func (b *bench) measureSessions() (sessionsCost, error) {
	cost := sessionsCost{Sessions: liveSessions}
	var err error
	if cost.Redis, err = b.growth("memory-redis", b.redis.options(3600)); err == nil {
		cost.Cookies, err = b.growth("memory-cookies", map[string]any{})
	}
	progress("")
	return cost, err
}

// growth is what one Traefik grows by in megabytes.
func (b *bench) growth(name string, session map[string]any) (float64, error) {
	progress("memory of %d sessions: %s", liveSessions, name)
	traefik, err := parts.StartTraefik(parts.TraefikOptions{Path: b.traefikPath, Dir: filepath.Join(b.dir, name), Plugin: b.plugin, Static: quiet})
	if err != nil {
		return 0, err
	}
	defer traefik.Stop()
	session["secret"] = sessionSecret
	options := b.signInOptions(session)
	if err := traefik.SetRoutes(name, parts.Route{Name: name, Backend: b.backend, Options: options}); err != nil {
		return 0, err
	}
	cookie, err := b.signIn(traefik, name)
	if err != nil {
		return 0, err
	}
	copies, err := b.copySessions(cookie, liveSessions, session["store"] != nil)
	if err != nil {
		return 0, err
	}
	one := make([]string, len(copies))
	for i := range one {
		one[i] = cookie
	}
	var sizes [2]float64
	for i, cookies := range [][]string{one, copies} {
		if err := b.visit(traefik, name, "Cookie", "", cookies); err != nil {
			return 0, err
		}
		if sizes[i], err = resident(traefik.PID); err != nil {
			return 0, err
		}
	}
	return sizes[1] - sizes[0], nil
}

// visit sends one request with each of the cookies, or tokens.
func (b *bench) visit(traefik *parts.Traefik, route, header, before string, values []string) error {
	failed := make([]error, 8)
	transport := &http.Transport{MaxIdleConnsPerHost: len(failed)}
	defer transport.CloseIdleConnections()
	var wait sync.WaitGroup
	for worker := range failed {
		wait.Go(func() {
			for i := worker; i < len(values) && failed[worker] == nil && b.ctx.Err() == nil; i += len(failed) {
				req, err := http.NewRequest(http.MethodGet, traefik.URL+"/", nil)
				if err == nil {
					req.Host = route + "." + parts.Domain
					req.Header.Set(header, before+values[i])
					var res *http.Response
					if res, err = transport.RoundTrip(req); err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
						if res.StatusCode != http.StatusOK {
							err = fmt.Errorf("visiting: expected 200, got %s; Traefik's log ends:\n%s", res.Status, lastLines(traefik.Log(0), 5))
						}
					}
				}
				failed[worker] = err
			}
		})
	}
	wait.Wait()
	return errors.Join(append(failed, b.ctx.Err())...)
}

const sessionSecret = "the-secret-of-the-sessions-of-the-benchmark"

// seal.go's format: base64url(version · nonce · AES-256-GCM), bound to issuer, client and purpose, and to a name.
type sealing struct {
	aead    cipher.AEAD
	context string
}

func newSealing(key []byte, context string) (*sealing, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealing{aead, context}, err
}

func (s *sealing) open(name, sealed string) ([]byte, error) {
	box, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(box) < 13 {
		return nil, fmt.Errorf("%s is not sealed as expected: %v", name, err)
	}
	return s.aead.Open(nil, box[1:13], box[13:], []byte(s.context+"\x00"+name))
}

func (s *sealing) seal(name string, plain []byte) string {
	box := append([]byte{1}, random(12)...)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(box, box[1:], plain, []byte(s.context+"\x00"+name)))
}

func random(size int) []byte {
	text := make([]byte, size)
	_, _ = rand.Read(text) // it does not fail
	return text
}

// copySessions seals a signed-in session many times. To the plugin each is a session of its own: another cookie, and with Redis
// another ticket with an entry of its own. That takes a second; as many sign-ins would take minutes.
func (b *bench) copySessions(cookie string, count int, stored bool) ([]string, error) {
	name, value, _ := strings.Cut(cookie, "=")
	purpose := "session"
	if stored {
		purpose = "ticket"
	}
	context := b.provider.Issuer + "\x00" + clientID + "\x00" + purpose
	key, err := hkdf.Key(sha256.New, []byte(sessionSecret), []byte("traefik-oidc"), context, 32)
	if err != nil {
		return nil, err
	}
	cookies, err := newSealing(key, context)
	if err != nil {
		return nil, err
	}
	plain, err := cookies.open(name, value)
	if err != nil {
		return nil, err
	}
	copies := make([]string, count)
	if !stored {
		for i := range copies {
			copies[i] = name + "=" + cookies.seal(name, plain)
		}
		return copies, nil
	}
	conn, err := net.Dial("tcp", b.redis.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	from := bufio.NewReader(conn)
	id := base64.RawURLEncoding.EncodeToString(plain[:16])
	sealed, err := askOver(conn, from, "GET "+entryKey(id))
	if err != nil {
		return nil, err
	}
	entries, err := newSealing(plain[16:], context)
	if err != nil {
		return nil, err
	}
	session, err := entries.open(id, sealed)
	for i := 0; i < len(copies) && err == nil; i++ {
		ticket := random(48)
		id := base64.RawURLEncoding.EncodeToString(ticket[:16])
		entries, _ := newSealing(ticket[16:], context) // it was good above
		_, err = askOver(conn, from, "SET "+entryKey(id)+" "+entries.seal(id, session)+" PX 3600000")
		copies[i] = name + "=" + cookies.seal(name, ticket)
	}
	return copies, err
}

func entryKey(id string) string { return "session:{" + id + "}" }
