package parts

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// What the tests have from other languages' registries. Each is made once of a locked list, and kept in the user's cache folder.

// PythonPath is a Python with the packages of e2e/python/requirements.txt.
func PythonPath(root string, w io.Writer) (string, error) {
	python, err := Find("python3")
	if err != nil {
		return "", err
	}
	requirements := filepath.Join(root, "e2e", "python", "requirements.txt")
	dir, err := keep("python", "Python's packages", []string{requirements}, w, func(path string) error {
		fmt.Fprintln(w, "Installing Python's packages that make tokens. That takes half a minute, once.")
		partial := path + ".partial"
		if err := os.RemoveAll(partial); err != nil { // of one that was stopped
			return err
		}
		if _, err := output("", python, "-m", "venv", partial); err != nil {
			return err
		}
		pip := []string{"-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:", "-r", requirements}
		if _, err := output("", filepath.Join(partial, "bin", "python"), pip...); err != nil {
			return err
		}
		return os.Rename(partial, path)
	})
	return filepath.Join(dir, "bin", "python"), err
}

// JarsPath is the class path with what e2e/java/pom.xml names.
func JarsPath(root string, w io.Writer) (string, error) {
	if _, err := Find("javac"); err != nil {
		return "", err
	}
	maven, err := Find("mvn")
	if err != nil {
		return "", err
	}
	list := filepath.Join(root, "e2e", "java", "pom.xml")
	dir, err := keep("java", "Java's libraries", []string{list}, w, func(path string) error {
		fmt.Fprintln(w, "Fetching Java's libraries. That takes half a minute, once.")
		partial := path + ".partial"
		if err := os.RemoveAll(partial); err != nil { // of one that was stopped
			return err
		}
		if _, err := output("", maven, "-q", "-B", "-f", list, "dependency:copy-dependencies", "-DoutputDirectory="+partial); err != nil {
			return err
		}
		return os.Rename(partial, path)
	})
	return filepath.Join(dir, "*"), err
}

// RustTokensPath is the program in e2e/rust.
func RustTokensPath(root string, w io.Writer) (string, error) {
	cargo, err := Find("cargo")
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, "e2e", "rust")
	var inputs []string
	for _, name := range []string{"Cargo.toml", "Cargo.lock", "src/main.rs"} {
		inputs = append(inputs, filepath.Join(folder, name))
	}
	return keep("rust", "Rust's jsonwebtoken", inputs, w, func(path string) error {
		fmt.Fprintln(w, "Building Rust's jsonwebtoken. That takes a minute, once.")
		target := filepath.Join(filepath.Dir(path), "rust") // what it depends on need not be built again for another main.rs
		if _, err := output(folder, cargo, "build", "--quiet", "--locked", "--target-dir", target); err != nil {
			return err
		}
		return os.Rename(filepath.Join(target, "debug", "tokens"), path)
	})
}
