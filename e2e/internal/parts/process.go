// Package parts starts and stops the real programs that the demo, the tests and the benchmark are made of, on free ports of
// 127.0.0.1, each a child that cannot outlive its parent.
package parts

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a running program. Everything it prints is kept in a file.
type Process struct {
	Name string
	// LogFile has standard output and standard error.
	LogFile string
	PID     int

	cmd  *exec.Cmd
	done chan struct{}
	stop sync.Once
	err  error
}

// Command says what to run.
type Command struct {
	Name    string // for messages
	Path    string
	Args    []string
	Dir     string   // working directory
	Env     []string // beside our own
	LogFile string
	// Stdin and Stdout are ours to talk to the program; without them it reads nothing, and what it says is in LogFile.
	Stdin, Stdout *os.File
}

// StartProcess runs a command until Stop, or until this process ends in whatever way.
func StartProcess(c Command) (*Process, error) {
	log, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: c.Name, LogFile: c.LogFile, done: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if c.Stdin != nil {
		p.cmd.Stdin = c.Stdin // as an interface, a nil file is not nil
	}
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.SysProcAttr = childAttributes()

	started := make(chan error)
	go func() {
		// The kernel ends the child when the thread that made it ends, so that thread has to wait for it.
		runtime.LockOSThread()
		defer log.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	return p, nil
}

// Stop asks the program to end, and ends it after five seconds. It may be called more than once.
func (p *Process) Stop() {
	p.stop.Do(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.Kill()
		}
	})
}

// Kill ends the program at once, as a power cut would.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// signal reaches the program and its own children: it leads a process group.
func (p *Process) signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		syscall.Kill(-p.PID, s)
	}
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Log returns what the program printed after offset, which LogSize told earlier.
func (p *Process) Log(offset int64) string {
	file, err := os.Open(p.LogFile)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return err.Error()
	}
	text, _ := io.ReadAll(file)
	return string(text)
}

// LogSize is where the log ends now.
func (p *Process) LogSize() int64 {
	info, err := os.Stat(p.LogFile)
	if err != nil {
		return 0
	}
	return info.Size()
}

// WaitFor asks ready every few milliseconds until it says yes, the program ends, or the time is over.
func (p *Process) WaitFor(what string, limit time.Duration, ready func() bool) error {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		if ready() {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended before %s:\n%s", p.Name, what, tail(p.Log(0), 30))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s: %s did not happen within %s; its log is %s and ends:\n%s", p.Name, what, limit, p.LogFile, tail(p.Log(0), 30))
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// FreePort finds a port of 127.0.0.1 that nobody listens on.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// output runs a short command and returns what it printed, or an error that says it.
func output(dir, path string, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", path, strings.Join(args, " "), err, tail(stderr.String(), 20))
	}
	return strings.TrimSpace(string(out)), nil
}
