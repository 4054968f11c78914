package oidc

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// House rules of this file: it knows how options are written, config.go knows which there are and what makes sense. An empty value
// of any kind leaves the default, because text formats cannot tell "nothing" from "not set". Each value is checked as it is read
// against the tags of its field; what depends on more than one option is checked afterwards, in validate.

// setDefaults gives every field of a block its default, at every depth. Blocks that are switched on by being there stay nil.
func setDefaults(block reflect.Value) {
	for i := 0; i < block.NumField(); i++ {
		field, text := block.Field(i), block.Type().Field(i).Tag.Get("default")
		switch field.Kind() {
		case reflect.Struct:
			setDefaults(field)
		case reflect.String:
			field.SetString(text)
		case reflect.Bool:
			field.SetBool(text == "true")
		case reflect.Int:
			number, _ := strconv.Atoi(text)
			field.SetInt(int64(number))
		case reflect.Slice:
			if text != "" {
				field.Set(reflect.ValueOf(strings.Split(text, ",")))
			}
		}
	}
}

// decodeBlock reads the options of one block; prefix is its path with a dot after it. Problems come in the order of the names.
func decodeBlock(block reflect.Value, prefix string, raw map[string]interface{}, p *problems) {
	fields := map[string]int{}
	for i := 0; i < block.NumField(); i++ {
		tag := block.Type().Field(i).Tag
		fields[strings.ToLower(tag.Get("json"))] = i
		if alias := tag.Get("alias"); alias != "" {
			fields[strings.ToLower(alias)] = i
		}
	}
	for _, name := range sortedNames(prefix, raw, p) {
		index, known := fields[strings.ToLower(name)]
		if !known {
			p.add(prefix+name, "unknown option; %s", suggestion(block.Type(), prefix, name))
			continue
		}
		tag := block.Type().Field(index).Tag
		decodeField(block.Field(index), tag, prefix+tag.Get("json"), raw[name], p)
	}
}

// decodeField reads one option, whatever its kind.
func decodeField(field reflect.Value, tag reflect.StructTag, option string, raw interface{}, p *problems) {
	switch field.Kind() {
	case reflect.Struct:
		if block, ok := toMap(raw); ok {
			decodeBlock(field, option+".", block, p)
		} else if text, ok := toText(raw); !ok || text != "" {
			p.add(option, "must be a block of options, not a text or list")
		}
	case reflect.Ptr:
		decodePointer(field, tag, option, raw, p)
	case reflect.Map:
		if values := readMap(tag, option, raw, p); len(values) > 0 {
			field.Set(reflect.ValueOf(values))
		}
	case reflect.Slice:
		if items := readList(tag, option, raw, p); len(items) > 0 {
			field.Set(reflect.ValueOf(items))
		}
	default:
		if text := readText(tag, option, raw, p); text != "" {
			setScalar(field, tag, option, text, p)
		}
	}
}

// decodePointer reads an option that may be absent: a value without default, or a block that is switched on by being there. Such
// a block is also switched by true and false: a label cannot write `{}`, and YAML's `{}` arrives as empty text.
func decodePointer(field reflect.Value, tag reflect.StructTag, option string, raw interface{}, p *problems) {
	target := reflect.New(field.Type().Elem())
	if target.Elem().Kind() != reflect.Struct {
		if text := readText(tag, option, raw, p); text != "" {
			setScalar(target.Elem(), tag, option, text, p)
			field.Set(target)
		}
		return
	}
	text, _ := toText(raw)
	on, err := strconv.ParseBool(text)
	if raw == nil || err == nil && !on {
		return
	}
	if err == nil {
		raw = ""
	}
	setDefaults(target.Elem())
	decodeField(target.Elem(), tag, option, raw, p)
	field.Set(target)
}

// setScalar writes a text, number or switch.
func setScalar(field reflect.Value, tag reflect.StructTag, option, text string, p *problems) {
	switch field.Kind() {
	case reflect.String:
		field.SetString(checkText(tag, option, text, p))
	case reflect.Bool:
		on, err := strconv.ParseBool(text)
		p.must(err == nil, option, "must be true or false%s", got(tag, text))
		field.SetBool(on)
	case reflect.Int:
		// Traefik's file provider writes numbers with a point as "1.500000", Kubernetes brings every number as a float.
		number, err := strconv.ParseFloat(text, 64)
		if err != nil || number != math.Trunc(number) || math.Abs(number) > math.MaxInt32 {
			p.add(option, "must be a whole number%s", got(tag, text))
			return
		}
		least, _ := strconv.ParseFloat(tag.Get("min"), 64) // no option may be below zero
		most, err := strconv.ParseFloat(tag.Get("max"), 64)
		p.must(number >= least, option, "must be at least %v%s", least, got(tag, text))
		p.must(err != nil || number <= most, option, "must be at most %v%s", most, got(tag, text))
		field.SetInt(int64(number))
	}
}

// readList reads a list, or text with commas.
func readList(tag reflect.StructTag, option string, raw interface{}, p *problems) []string {
	var texts, items []string
	if list := reflect.ValueOf(raw); list.IsValid() && list.Kind() == reflect.Slice {
		for i := 0; i < list.Len(); i++ {
			texts = append(texts, readText(tag, option, list.Index(i).Interface(), p))
		}
	} else {
		texts = strings.Split(readText(tag, option, raw, p), ",")
	}
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			items = append(items, checkText(tag, option, text, p))
		}
	}
	return items
}

// readMap reads names with values, or text like `a=b,c=d`: key-value stores make lists of names that are numbers (errorPages).
func readMap(tag reflect.StructTag, option string, raw interface{}, p *problems) map[string]string {
	pairs, isMap := toMap(raw)
	if text, ok := toText(raw); !isMap && ok {
		pairs = map[string]interface{}{}
		for _, pair := range strings.Split(text, ",") {
			if name, value, found := strings.Cut(pair, "="); found {
				pairs[strings.TrimSpace(name)] = value
			} else if text != "" {
				p.add(option, "must be names with values; write a block, or text like %q", "name=value,name=value")
			}
		}
	} else if !isMap {
		p.add(option, "must be names with values, not a list")
	}
	values := map[string]string{}
	for _, name := range sortedNames(option+".", pairs, p) {
		p.must(name != "<int Value>", option+"."+name, "Traefik's file provider reads only text as names; write the number in quotes, as in \"401\"")
		checkText(tag, option+"."+name, name, p)
		values[name] = readText(tag, option+"."+name, pairs[name], p)
	}
	return values
}

// readText reads one value as text, with ${…} replaced and without white space around it.
func readText(tag reflect.StructTag, option string, raw interface{}, p *problems) string {
	text, ok := toText(raw)
	if !ok {
		p.add(option, "must be one value, not a list or block")
		return ""
	}
	return expand(tag, option, text, p)
}

// reference is ${NAME} or ${file:/path}. Nothing else that begins with ${ is touched.
var reference = regexp.MustCompile(`\$\{(file:[^}]+|[A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces each ${NAME} by the environment variable and each ${file:/path} by what the file holds. A secret is replaced only
// as a whole, since a password may itself contain "${". What was put in is not looked at again, and what cannot be found stays as it
// is: an option that was meant to be set counts as set in later checks.
func expand(tag reflect.StructTag, option, text string, p *problems) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "urn:k8s:") {
		p.add(option, "urn:k8s:secret:name:key is resolved only by Traefik's Kubernetes CRD provider; write \"${NAME}\" or \"${file:/path}\"")
		return text
	}
	if !strings.Contains(text, "${") || tag.Get("secret") != "" && reference.FindString(text) != text {
		return text
	}
	return strings.TrimSpace(reference.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		if file := strings.TrimPrefix(name, "file:"); file != name {
			data, err := os.ReadFile(file)
			if err != nil {
				p.add(option, "%s: %v; Traefik's process must be able to read it", found, err)
				return found
			}
			return strings.TrimSpace(string(data))
		}
		value, set := os.LookupEnv(name)
		if !set {
			p.add(option, "environment variable %q is not set; set it for Traefik's process", name)
			return found
		}
		return value
	}))
}

// checkText checks a text, an item of a list or a name in a map against its field's tags, and returns it in the documented case.
func checkText(tag reflect.StructTag, option, text string, p *problems) string {
	if allowed := tag.Get("enum"); allowed != "" {
		for _, value := range strings.Split(allowed, "|") {
			if strings.EqualFold(value, text) {
				return value
			}
		}
		p.add(option, "must be one of %s%s", strings.Replace(allowed, "|", ", ", -1), got(tag, text))
	}
	if wrong, hint := complaint(tag.Get("is"), text); wrong != "" {
		p.add(option, "%s%s%s", wrong, got(tag, text), hint)
	}
	return text
}

// got is the end of a message: the value that was found, unless it is a secret.
func got(tag reflect.StructTag, text string) string {
	if tag.Get("secret") != "" {
		return ""
	}
	return fmt.Sprintf(", got %q", userInfo.ReplaceAllString(text, "$1…@"))
}

// userInfo is what stands before the host of an address, where people put passwords.
var userInfo = regexp.MustCompile(`(//|^).*@`)

// toText is a scalar as a label would write it. Lists and blocks are none.
func toText(raw interface{}) (string, bool) {
	if text, ok := raw.(string); ok || raw == nil {
		return strings.TrimSpace(text), true
	}
	value := reflect.ValueOf(raw)
	switch value.Kind() {
	case reflect.Map, reflect.Slice:
		return "", false
	case reflect.Float64: // %v would write 1e+06
		return strconv.FormatFloat(value.Float(), 'f', -1, 64), true
	}
	return fmt.Sprint(raw), true
}

// toMap is a block as Traefik's providers bring it; YAML may bring keys that are not text.
func toMap(raw interface{}) (map[string]interface{}, bool) {
	if block, ok := raw.(map[string]interface{}); ok {
		return block, true
	}
	value := reflect.ValueOf(raw)
	if !value.IsValid() || value.Kind() != reflect.Map {
		return nil, false
	}
	block := map[string]interface{}{}
	for _, key := range value.MapKeys() {
		block[fmt.Sprint(key.Interface())] = value.MapIndex(key).Interface()
	}
	return block, true
}

// sortedNames gives the names of a block in order. None may come twice: of X-User and x-user either could win.
func sortedNames(prefix string, block map[string]interface{}, p *problems) []string {
	var names []string
	seen := map[string]bool{}
	for name := range block {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		folded := strings.ToLower(name)
		if seen[folded] {
			p.add(prefix+name, "given twice, with other capital letters; keep one")
		}
		seen[folded] = true
	}
	return names
}

// suggestion says what an unknown option may have been meant to be: the same name below or at another place, else the one here
// that has most letters at its beginning and end in common.
func suggestion(here reflect.Type, prefix, name string) string {
	var below, elsewhere []string
	for _, option := range optionPaths(reflect.TypeOf(Config{}), "") {
		if strings.EqualFold(option[strings.LastIndex(option, ".")+1:], name) {
			elsewhere = append(elsewhere, option)
			if strings.HasPrefix(option, prefix) {
				below = append(below, option)
			}
		}
	}
	if len(below) > 0 {
		elsewhere = below
	}
	if len(elsewhere) > 0 {
		return "its place is " + strings.Join(elsewhere, " or ")
	}
	closest, most := "{}", math.MinInt32 // a block without options
	for i := 0; i < here.NumField(); i++ {
		option := here.Field(i).Tag.Get("json")
		if score := likeness(strings.ToLower(option), strings.ToLower(name)); score > most {
			closest, most = option, score
		}
	}
	return fmt.Sprintf("did you mean %q?", closest)
}

// optionPaths lists every option below a block, with its path.
func optionPaths(block reflect.Type, prefix string) []string {
	var paths []string
	for i := 0; i < block.NumField(); i++ {
		field := block.Field(i)
		option, kind := prefix+field.Tag.Get("json"), field.Type
		if kind.Kind() == reflect.Ptr {
			kind = kind.Elem()
		}
		if paths = append(paths, option); kind.Kind() == reflect.Struct {
			paths = append(paths, optionPaths(kind, option+".")...)
		}
	}
	return paths
}

// likeness counts the letters two names have in common at the beginning and at the end, less the difference of their lengths.
func likeness(a, b string) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	head, tail := 0, 0
	for head < len(a) && a[head] == b[head] {
		head++
	}
	for tail < len(a)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return head + tail - (len(b) - len(a))
}

// location is an address of ours: scheme and host are empty where the request's are taken. The path is as it is written in an
// address: escaped, and with the query, if there is one.
type location struct{ scheme, host, path string }

// parseLocation reads Traefik Hub's three forms of an address: a path (`/x`), host and path (`example.com/x`), or a URL.
func parseLocation(text string) (location, error) {
	full, isPath, isURL := "http://"+text, strings.HasPrefix(text, "/"), strings.Contains(text, "://")
	if isPath {
		full = "http://host" + text
	} else if isURL {
		full = text
	}
	u, err := url.Parse(full)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return location{}, errors.New(`must be a path ("/x"), host and path ("app.example.com/x"), or an http(s) URL, without a fragment`)
	}
	if below := "/a" + u.Path; path.Clean(below) != strings.TrimSuffix(below, "/") {
		return location{}, errors.New("must not have . or .. or // in its path")
	}
	// A path whose first slash was forgotten looks like a host.
	if !isPath && !isURL && (u.Path == "" || !strings.ContainsAny(u.Host, ".:") && u.Host != "localhost") {
		return location{}, errors.New(`must be a path ("/x"), host and path, or an http(s) URL; a path begins with a slash`)
	}
	where := location{path: u.RequestURI()}
	if !isPath {
		where.host = strings.ToLower(u.Host)
	}
	if isURL {
		where.scheme = u.Scheme
	}
	return where, nil
}
