// Command host serves the plugin in the interpreter to tests in another process. With a command after its flags it runs that
// command with OIDC_TEST_HOST set and ends with it; without one it serves until it is interrupted.
//
//	go run -C e2e/interpreted ./cmd/host -- go test -C ../.. -run 'TestLogin|TestSession' .
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"

	"github.com/traefik-oidc/oidc/e2e/interpreted"
)

func main() {
	folder := flag.String("plugin", "../..", "the folder with the plugin's files")
	listen := flag.String("listen", "127.0.0.1:0", "the address to serve on")
	flag.Parse()
	code, err := run(*folder, *listen, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "host:", err)
		code = 1
	}
	os.Exit(code)
}

func run(folder, address string, command []string) (int, error) {
	log := &interpreted.Lines{}
	plugin, err := interpreted.Load(folder, log, log)
	if err != nil {
		return 0, fmt.Errorf("loading the plugin in %s: %w", folder, err)
	}
	defer plugin.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return 0, err
	}
	host := interpreted.NewHost(plugin, log)
	defer host.Close()
	go func() { _ = http.Serve(listener, host) }()
	at := "OIDC_TEST_HOST=http://" + listener.Addr().String()

	if len(command) == 0 {
		fmt.Println(at)
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		<-interrupted
		return 0, nil
	}
	child := exec.Command(command[0], command[1:]...)
	child.Env = append(os.Environ(), at)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = child.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return failed.ExitCode(), nil
	}
	return 0, err
}
