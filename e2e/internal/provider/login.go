package provider

import (
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	loginPath     = "/login"
	signedOutPath = "/signed-out"
	sessionCookie = "provider-session"
)

//go:embed login.html
var loginHTML string

var loginPage = template.Must(template.New("login").Parse(loginHTML))

// loginData is what the page shows.
type loginData struct {
	ID, Client, Name, Hint, Error string
	SignedOut                     bool
}

// showLogin is where the library sends a browser. One that is signed in here already goes straight on, unless the
// application wants the password again (prompt, max_age).
func (p *Provider) showLogin(rw http.ResponseWriter, req *http.Request) {
	request := p.store.request(req.FormValue("id"))
	if request == nil {
		http.Error(rw, "This sign-in is over. Go back to the application and start again.", http.StatusBadRequest)
		return
	}
	if session := p.sessionOf(req); session != nil && fresh(request, session) {
		p.finish(rw, req, request, session)
		return
	}
	if slices.Contains(request.Prompt, oidc.PromptNone) {
		op.AuthRequestError(rw, req, request, oidc.ErrLoginRequired(), p.op)
		return
	}
	render(rw, http.StatusOK, loginData{ID: request.id, Client: request.ClientID, Name: request.LoginHint, Hint: p.hint})
}

// fresh tells whether a sign-in of before is good enough (OpenID Connect Core 3.1.2.1: prompt, max_age).
func fresh(request *authRequest, session *browserSession) bool {
	if slices.Contains(request.Prompt, oidc.PromptLogin) || slices.Contains(request.Prompt, oidc.PromptSelectAccount) {
		return false
	}
	return request.MaxAge == nil || time.Since(session.authTime) < time.Duration(*request.MaxAge)*time.Second
}

// login takes the form. The button that cancels is the user's refusal.
func (p *Provider) login(rw http.ResponseWriter, req *http.Request) {
	request := p.store.request(req.FormValue("id"))
	if request == nil {
		http.Error(rw, "This sign-in is over. Go back to the application and start again.", http.StatusBadRequest)
		return
	}
	if req.FormValue("cancel") != "" {
		op.AuthRequestError(rw, req, request, oidc.ErrAccessDenied().WithDescription("the user said no"), p.op)
		return
	}
	name := req.FormValue("username")
	user, ok := p.store.userNamed(name, req.FormValue("password"))
	if !ok {
		render(rw, http.StatusUnauthorized, loginData{
			ID: request.id, Client: request.ClientID, Name: name, Hint: p.hint, Error: "That name and password do not match.",
		})
		return
	}
	session := &browserSession{id: uuid.NewString(), user: user, authTime: time.Now()}
	if before := p.sessionOf(req); before != nil && before.user.subject() == user.subject() {
		session.id = before.id // the password was asked again, or in another tab
	}
	p.store.mu.Lock()
	p.store.sessions[session.id] = session
	p.store.mu.Unlock()
	http.SetCookie(rw, &http.Cookie{Name: sessionCookie, Value: session.id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	p.finish(rw, req, request, session)
}

// finish hands the sign-in back to the library, which sends the browser home with a code.
func (p *Provider) finish(rw http.ResponseWriter, req *http.Request, request *authRequest, session *browserSession) {
	p.store.mu.Lock()
	request.session = session
	p.store.mu.Unlock()
	ctx := op.ContextWithIssuer(req.Context(), p.Issuer)
	http.Redirect(rw, req, op.AuthCallbackURL(p.op)(ctx, request.id), http.StatusFound)
}

func (p *Provider) sessionOf(req *http.Request) *browserSession {
	cookie, err := req.Cookie(sessionCookie)
	if err != nil {
		return nil
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.store.sessions[cookie.Value]
}

func (p *Provider) showSignedOut(rw http.ResponseWriter, _ *http.Request) {
	render(rw, http.StatusOK, loginData{SignedOut: true})
}

func render(rw http.ResponseWriter, status int, data loginData) {
	rw.Header().Set("Content-Type", "text/html; charset=utf-8")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(status)
	loginPage.Execute(rw, data)
}
