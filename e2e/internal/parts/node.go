package parts

import (
	"os"
	"path/filepath"
	"sync"
)

var installNode sync.Mutex

// InstallNodeModules puts the locked packages of a folder in place, unless they are there. No script of theirs runs.
func InstallNodeModules(folder string) error {
	installNode.Lock()
	defer installNode.Unlock()
	lock, err := os.Stat(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		return err
	}
	// npm writes this file last.
	installed, err := os.Stat(filepath.Join(folder, "node_modules", ".package-lock.json"))
	if err == nil && !installed.ModTime().Before(lock.ModTime()) {
		return nil
	}
	npm, err := Find("npm")
	if err != nil {
		return err
	}
	_, err = output(folder, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	return err
}
