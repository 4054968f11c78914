package e2e

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/traefik-oidc/oidc/e2e/internal/provider"
)

// TestStreamWebsocket: the plugin hands the response writer on as it came, so a websocket works as without it.
func TestStreamWebsocket(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	address := app.URL + "/ws"
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: alice.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for _, message := range []string{"one", strings.Repeat("two ", 5000)} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, echo, err := conn.Read(ctx); err != nil || string(echo) != message {
			t.Fatalf("sent %d bytes, got %d back: %v", len(message), len(echo), err)
		}
	}

	nobody := app.visitor(t)
	_, resp, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: nobody.Client()})
	if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a session the websocket got %v, %v", resp, err)
	}
}

// TestStreamEvents: server-sent events arrive one by one, not when the answer is complete.
func TestStreamEvents(t *testing.T) {
	t.Parallel()
	app := start(t).serve(t, site{})
	alice := app.visitor(t)
	alice.signIn("/", provider.Alice)

	resp, err := alice.Client().Get(app.URL + "/events?n=4&ms=150")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var arrived []time.Time
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data: ") {
			arrived = append(arrived, time.Now())
		}
	}
	if resp.Header.Get("Content-Type") != "text/event-stream" || len(arrived) != 4 {
		t.Fatalf("%d events, %v", len(arrived), resp.Header)
	}
	if spread := arrived[3].Sub(arrived[0]); spread < 300*time.Millisecond {
		t.Errorf("four events 150 ms apart arrived within %s", spread)
	}
}
