// Package interpreted runs the plugin in Yaegi, exactly as Traefik loads it (pkg/plugins/middlewareyaegi.go): the same options of
// the interpreter, the same two functions looked up, the same decoding of the configuration. The HTTP tests at the root then run
// against what users run, without the minutes and the noise of a whole Traefik.
package interpreted

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"

	"github.com/mitchellh/mapstructure"
	"github.com/traefik/yaegi/interp"
	"github.com/traefik/yaegi/stdlib"
)

// Module is the plugin's import path; its last element is the package.
const Module = "github.com/traefik-oidc/oidc"

// Plugin is the plugin in one interpreter. All middlewares built with it share its package variables, as in Traefik.
type Plugin struct {
	fnNew, fnCreateConfig reflect.Value
	goPath                string
}

// Load interprets the plugin in folder. What it prints goes to stdout, what it logs with package log to stderr.
func Load(folder string, stdout, stderr io.Writer) (*Plugin, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	goPath, err := os.MkdirTemp("", "oidc-gopath-")
	if err != nil {
		return nil, err
	}
	p := &Plugin{goPath: goPath}
	link := filepath.Join(goPath, "src", filepath.FromSlash(Module))
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return nil, err
	}
	if err := os.Symlink(folder, link); err != nil {
		return nil, err
	}
	if err := p.load(stdout, stderr); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plugin) load(stdout, stderr io.Writer) (err error) {
	// Some constructs make Eval panic instead of returning an error. In Traefik that ends the start.
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("the interpreter panicked: %v", reason)
		}
	}()
	i := interp.New(interp.Options{GoPath: p.goPath, Env: os.Environ(), Stdout: stdout, Stderr: stderr})
	if err := i.Use(stdlib.Symbols); err != nil {
		return err
	}
	if _, err := i.Eval(fmt.Sprintf("import %q", Module)); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if p.fnNew, err = i.Eval("oidc.New"); err != nil {
		return fmt.Errorf("New: %w", err)
	}
	if p.fnCreateConfig, err = i.Eval("oidc.CreateConfig"); err != nil {
		return fmt.Errorf("CreateConfig: %w", err)
	}
	return nil
}

// Close removes what Load put on the disk. Middlewares that were built go on.
func (p *Plugin) Close() { _ = os.RemoveAll(p.goPath) }

// Decode makes the configuration value of options, as Traefik does once for each middleware.
func (p *Plugin) Decode(options map[string]any) (reflect.Value, error) {
	config := p.fnCreateConfig.Call(nil)[0]
	if len(options) == 0 {
		return config, nil
	}
	decoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		DecodeHook:       mapstructure.StringToSliceHookFunc(","),
		WeaklyTypedInput: true,
		Result:           config.Interface(),
	})
	if err != nil {
		return config, err
	}
	if err := decoder.Decode(options); err != nil {
		return config, fmt.Errorf("failed to decode configuration: %w", err)
	}
	return config, nil
}

// New makes one middleware in front of next, as Traefik does for each router.
func (p *Plugin) New(ctx context.Context, next http.Handler, config reflect.Value, name string) (http.Handler, error) {
	results := p.fnNew.Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(next), config, reflect.ValueOf(name)})
	if problem := results[1].Interface(); problem != nil {
		err, ok := problem.(error)
		if !ok {
			return nil, fmt.Errorf("invalid error type: %T", problem)
		}
		return nil, err
	}
	handler, ok := results[0].Interface().(http.Handler)
	if !ok {
		return nil, fmt.Errorf("invalid handler type: %T", results[0].Interface())
	}
	return handler, nil
}

// Build is Decode and New.
func (p *Plugin) Build(ctx context.Context, next http.Handler, options map[string]any, name string) (http.Handler, error) {
	config, err := p.Decode(options)
	if err != nil {
		return nil, err
	}
	return p.New(ctx, next, config, name)
}
