package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// House rules: this file knows how options are written; config.go knows which there are, and rules.go what makes sense. An empty value of any
// kind leaves the default, because text formats cannot tell "empty" from "not set". Each value is checked against the tags of its field as
// it is read; what depends on more than one option is checked at the end of its block.

// option is an option, or a block of them, while it is read.
type option struct {
	path string            // to it; "" is the whole configuration
	tag  reflect.StructTag // of its field
	p    *problems
}

// block is what is known of a block of options: its fields, and what it is when nothing is given. It is the same for all middlewares, and
// reflection and defaults cost the interpreter more than all else that makes one; so each block is looked at once.
type block struct {
	fields   []*blockField
	places   map[string]int // in fields, by spelling
	defaults reflect.Value
	set      map[string]string // the defaults, by their paths
}

// blockField is the field of an option in its block, or in one that is embedded there.
type blockField struct {
	index     []int
	path      string
	spellings []string // in lower case
	tag       reflect.StructTag
}

// blocks holds the blocks by their paths.
var blocks sync.Map

// blockOf returns what is known of the block at o.
func blockOf(o *option, kind reflect.Type) *block {
	known, found := blocks.Load(o.path)
	if !found {
		made := &block{fields: blockFields(o, kind, nil), places: map[string]int{}, defaults: reflect.New(kind).Elem(), set: map[string]string{}}
		for i, f := range made.fields {
			for _, spelling := range f.spellings {
				made.places[spelling] = i
			}
			text, field := f.tag.Get("default"), made.defaults.FieldByIndex(f.index)
			if text != "" || field.Kind() == reflect.Struct {
				readField(field, &option{path: f.path, tag: f.tag, p: &problems{set: made.set}}, text)
			}
		}
		known = made
		blocks.Store(o.path, known)
	}
	return known.(*block)
}

// blockFields lists the fields of a block, in their order. index is where it is embedded.
func blockFields(o *option, kind reflect.Type, index []int) []*blockField {
	var fields []*blockField
	for i := 0; i < kind.NumField(); i++ {
		field := kind.Field(i)
		at := append(index[:len(index):len(index)], i)
		if name := field.Tag.Get("json"); name != "" {
			spellings := strings.Fields(strings.ToLower(name + " " + field.Tag.Get("alias")))
			fields = append(fields, &blockField{index: at, path: under(o, name), spellings: spellings, tag: field.Tag})
		} else {
			fields = append(fields, blockFields(o, field.Type, at)...)
		}
	}
	return fields
}

// readBlock reads the options of one block, and returns the names that are given, sorted.
func readBlock(value reflect.Value, o *option, raw map[string]any) []string {
	known := blockOf(o, value.Type())
	value.Set(known.defaults)
	for path, text := range known.set {
		o.p.set[path] = text
	}
	given := map[string]any{} // by name in lower case
	names := sortedNames(o, raw)
	var places []int
	for _, name := range names {
		spelling := strings.ToLower(name)
		given[spelling] = raw[name]
		if place, found := known.places[spelling]; found {
			places = append(places, place)
		}
	}
	sort.Ints(places) // an option's check may need one that comes before it in the block
	for _, place := range places {
		readGiven(value, known.fields[place], o, given)
	}
	for _, name := range names {
		if _, isLeft := given[strings.ToLower(name)]; isLeft {
			o.p.add(under(o, name), "unknown option; %s", suggestion(o, name))
		}
	}
	checkRules(o.path[strings.LastIndex(o.path, ".")+1:], o, strings.TrimPrefix(o.path+".", "."), o.p.set)
	return names
}

// readGiven reads an option if it is given, and removes it from given.
func readGiven(block reflect.Value, f *blockField, o *option, given map[string]any) {
	var raw any
	isThere := false
	for _, spelling := range f.spellings {
		if _, isGiven := given[spelling]; !isGiven {
			continue
		}
		isThere = true
		if value := given[spelling]; value != nil {
			if raw != nil {
				o.p.add(f.path, "given twice, also as %q; keep one", spelling)
			}
			raw = value
		}
		delete(given, spelling)
	}
	if !isThere {
		return
	}
	at := &option{path: f.path, tag: f.tag, p: o.p}
	field := block.FieldByIndex(f.index)
	if raw != nil {
		readField(field, at, raw)
	}
	if o.p.set[f.path] == "" {
		checkEmpty(field, at, raw)
	}
}

// checkEmpty checks an option that is present but empty. A block that is null switches nothing on, although its presence should. A restriction
// that is empty, because a variable was not filled in, would restrict nothing. For other options, the rules can ask for this with name~.
func checkEmpty(field reflect.Value, o *option, raw any) {
	isSwitch := field.Kind() == reflect.Ptr && field.Type().Elem().Kind() == reflect.Struct
	o.p.failIf(raw == nil && isSwitch, o.path, "is null, which sets nothing; write options below it, {} for its defaults, or leave it out")
	o.p.set[o.path+"~"] = "true"
	o.p.failIf(o.tag.Get("restricts") != "", o.path, "is there and empty, and without a value more would be let in; set it, or leave it out")
}

// readField reads one option of any kind. An empty one leaves the default.
func readField(field reflect.Value, o *option, raw any) {
	switch field.Kind() {
	case reflect.Struct, reflect.Ptr, reflect.Map, reflect.Slice:
		readCompound(field, o, raw)
		return
	}
	text := readText(o, raw)
	if text == "" {
		return
	}
	text = checkText(o, text)
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
		o.p.set[o.path] = text
		return
	case reflect.Bool:
		on, _ := strconv.ParseBool(text)
		field.SetBool(on)
	default:
		number, _ := strconv.ParseFloat(text, 64) // Traefik's file provider writes "1.000000"
		field.SetInt(int64(number))
	}
	o.p.set[o.path] = fmt.Sprint(field.Interface())
}

// readCompound is readField for everything but a single value.
func readCompound(field reflect.Value, o *option, raw any) {
	switch field.Kind() {
	case reflect.Struct:
		block, isBlock := raw.(map[string]any)
		if text, isText := toText(raw); !isBlock && (!isText || text != "") {
			o.p.add(o.path, "must be a block of options, not a text or list")
		}
		readBlock(field, o, block)
	case reflect.Ptr:
		readPointer(field, o, raw)
	case reflect.Map:
		field.Set(reflect.ValueOf(readMap(o, raw)))
	default:
		if items := readList(o, raw); items != nil {
			field.Set(reflect.ValueOf(items))
			o.p.set[o.path] = strings.Join(items, " and ")
		}
	}
}

// readPointer reads an option that may be absent: a value without a default, or a block that is switched on by its presence. Such a block can
// also be switched with true and false, because a label cannot say `{}`, and YAML's `{}` arrives as empty text.
func readPointer(field reflect.Value, o *option, raw any) {
	target := reflect.New(field.Type().Elem())
	if target.Elem().Kind() == reflect.Struct {
		text, _ := toText(raw)
		on, err := strconv.ParseBool(text)
		if err == nil && !on {
			return
		}
		if err == nil {
			raw = nil
		}
		o.p.set[o.path] = "true"
	}
	readField(target.Elem(), o, raw)
	if o.p.set[o.path] != "" {
		field.Set(target)
	}
}

// readList reads a list, or text with commas. Every item may be a ${…}; in text, its value may itself have commas.
func readList(o *option, raw any) []string {
	var texts, items []string
	list, isList := raw.([]any)
	if text, isText := toText(raw); isText {
		for _, item := range strings.Split(text, ",") {
			texts = append(texts, strings.Split(readText(o, item), ",")...)
		}
	} else if !isList {
		o.p.add(o.path, "must be a list, or text with commas, not a block")
	}
	for _, item := range list {
		texts = append(texts, readText(o, item))
	}
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			items = append(items, checkText(o, text))
		}
	}
	return items
}

// readMap reads names with values, or text like `a=b,c=d`: key-value stores turn names that are numbers into lists (errorPages).
func readMap(o *option, raw any) map[string]string {
	pairs, isMap := raw.(map[string]any)
	text, isText := toText(raw)
	o.p.failIf(!isMap && !isText, o.path, "must be names with values, not a list")
	if isText && text != "" {
		pairs = map[string]any{}
		for _, pair := range strings.Split(text, ",") {
			name, value, found := strings.Cut(pair, "=")
			name = strings.TrimSpace(name)
			o.p.failIf(!found, o.path, "must be names with values; write a block, or text like %q", "name=value,name=value")
			o.p.failIf(hasKey(pairs, name), under(o, name), "given twice; keep one")
			pairs[name] = value
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	values := map[string]string{}
	for _, name := range sortedNames(o, pairs) {
		at := &option{path: under(o, name), tag: o.tag, p: o.p}
		o.p.failIf(name == "<int Value>", at.path, "Traefik's file provider reads only text as names; write the number in quotes, as in \"401\"")
		checkText(at, name)
		values[name] = readText(at, pairs[name])
	}
	return values
}

// readText reads a single value as text, replaces ${…}, and trims white space.
func readText(o *option, raw any) string {
	text, isText := toText(raw)
	if !isText {
		o.p.add(o.path, "must be one value, not a list or block")
		return ""
	}
	if number, isNumber := raw.(json.Number); isNumber { // Traefik's Kubernetes provider reads it as a float64: 53 bits
		value, _ := number.Float64()
		o.p.failIf(math.Abs(value) >= 1<<53, o.path, "is a number that lost digits on its way here, got %s; write it in quotes", text)
	}
	if strings.Contains(text, "${") || strings.HasPrefix(text, "urn:") {
		return expand(o, text)
	}
	return text
}

// reference matches ${NAME} and ${file:/path}. Anything else that begins with ${ is left alone.
var reference = regexp.MustCompile(`\$\{(file:[^}]+|[A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces each ${NAME} with an environment variable, and each ${file:/path} with the content of a file. In a secret, only a reference
// that is the whole value is replaced, since a password may itself contain "${". Inserted text is not expanded again. A reference that cannot
// be resolved stays, so that later checks still take the option for set.
func expand(o *option, text string) string {
	o.p.failIf(strings.HasPrefix(text, "urn:k8s:"), o.path, "urn:k8s:secret:name:key is resolved only by Traefik's Kubernetes CRD provider; write \"${NAME}\" or \"${file:/path}\"")
	if o.tag.Get("secret") != "" && reference.FindString(text) != text {
		return text
	}
	expanded := strings.TrimSpace(reference.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		file := strings.TrimPrefix(name, "file:")
		if o.tag.Get("shown") != "" && (file != name || secretName.MatchString(name)) {
			o.p.add(o.path, "%s must not stand in an option whose value visitors see; write the value itself", found)
		} else if file == name {
			return readVariable(o, name, found)
		} else {
			data, err := readNamedFile(file, o.p)
			if err == nil {
				return strings.TrimSpace(string(data))
			}
			o.p.add(o.path, "%s: %v; Traefik's process must be able to read it", found, err)
		}
		return found
	}))
	o.p.failIf(expanded == "" && o.tag.Get("restricts") != "", o.path, "%s is empty, and without a value more would be let in; set it", forLog(text))
	return expanded
}

// secretName matches the names of variables that hold secrets.
var secretName = regexp.MustCompile(`(?i)secret|token|passw|key|credential|private`)

// By these environment variables, Traefik's operator restricts what references may name, where other people write the middlewares. They are
// read each time. One that is set but empty allows nothing.
const (
	fileAllowList = "TRAEFIK_OIDC_FILES" // folders, as in PATH
	envAllowList  = "TRAEFIK_OIDC_ENV"   // names, separated by commas; * matches any characters
)

// readVariable returns the value of an environment variable, or found if it cannot be read.
func readVariable(o *option, name, found string) string {
	names, isLocked := os.LookupEnv(envAllowList)
	isAllowed := !isLocked
	for _, pattern := range strings.Fields(strings.ReplaceAll(names, ",", " ")) {
		matches, _ := path.Match(pattern, name)
		isAllowed = isAllowed || matches
	}
	value, isSet := os.LookupEnv(name)
	o.p.failIf(!isAllowed, o.path, "environment variable %q is not among the names in TRAEFIK_OIDC_ENV, which Traefik's operator has set; use one of those", name)
	o.p.failIf(!isSet, o.path, "environment variable %q is not set; set it for Traefik's process", name)
	if isAllowed && isSet {
		return value
	}
	return found
}

const maxNamedFile = 16 << 20

// readNamedFile reads a file that an option names, and notes in p what it held. It must be a regular file: a device may never end, and a
// pipe waits for a writer.
func readNamedFile(name string, p *problems) ([]byte, error) {
	at, err := allowedPath(name)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(at); err == nil && (!info.Mode().IsRegular() || info.Size() > maxNamedFile) {
		return nil, fmt.Errorf("must be a regular file of at most %d bytes", maxNamedFile)
	}
	data, err := os.ReadFile(at)
	if err == nil {
		p.files = append(p.files, name, hashText(string(data)))
	}
	return data, err
}

// allowedPath returns a file's real path, if it may be read. The path must be in one of the allowed folders both as it is written, so that
// errors reveal nothing about other places, and after following links, which Kubernetes uses in a mounted Secret.
func allowedPath(name string) (string, error) {
	folders, isLocked := os.LookupEnv(fileAllowList)
	if !isLocked {
		return name, nil
	}
	at, err := filepath.Abs(name)
	for _, folder := range filepath.SplitList(folders) {
		if folder = filepath.Clean(folder); err != nil || folder == "." || !strings.HasPrefix(at, strings.TrimSuffix(folder, "/")+"/") {
			continue
		}
		real, broken := filepath.EvalSymlinks(at)
		within, missing := filepath.EvalSymlinks(folder)
		if broken != nil {
			return "", broken
		}
		if missing == nil && strings.HasPrefix(real, strings.TrimSuffix(within, "/")+"/") {
			return real, nil
		}
	}
	return "", fmt.Errorf("%q is not within the folders in TRAEFIK_OIDC_FILES, which Traefik's operator has set; move it there", name)
}

// checkText checks a text, an item of a list or a name in a map against its field's tags, and returns it in the documented letter case.
func checkText(o *option, text string) string {
	if allowed := o.tag.Get("enum"); allowed != "" {
		for _, value := range strings.Split(allowed, "|") {
			if strings.EqualFold(value, text) {
				return value
			}
		}
		o.p.add(o.path, "must be one of %s, got %q", strings.ReplaceAll(allowed, "|", ", "), text)
	}
	if kind := o.tag.Get("format"); kind != "" {
		facts := map[string]string{"value": text, "size": strconv.Itoa(len(text)), "min": o.tag.Get("min"), "max": o.tag.Get("max")}
		if o.tag.Get("secret") != "" {
			facts["kinds"] = strconv.Itoa(countDistinctBytes(text))
			facts["example"] = publishedSecret.FindString(wordSeparators.Replace(strings.ToLower(text)))
		} else if kind == "endpoint" || kind == "location" {
			addLocationFacts(facts, o.p.set["issuer"])
		}
		checkRules(kind, o, "", facts)
	}
	return text
}

// addLocationFacts adds what the rules ask about one of our addresses.
func addLocationFacts(facts map[string]string, issuer string) {
	where, err := parseLocation(facts["value"])
	theirs, _ := parseLocation(issuer)
	facts["host"] = where.host
	facts["path"] = where.path
	facts["wrong"] = fmt.Sprint(err)
	facts["issuer"] = issuer
	facts["below"] = fmt.Sprint(strings.HasPrefix(where.host+where.path+"/", theirs.host+strings.TrimSuffix(theirs.path, "/")+"/"))
}

// published matches what secrets in manuals and examples (not only ours) are made of; wordSeparators is what varies in them.
var (
	publishedSecret = regexp.MustCompile("change(me|this|it)|replace|placeholder|example|dummy|sample|insert|your(secret|own|key|pass|client|random|super|session|cookie|32)|(my|super|top|client|session|cookie|shared)secret|" +
		"secret(key|here|value)|p[a4@][s5$][s5$]w[o0]rd|somethingrandom|opensslrand|powpow|potato|lettersdigits|character|atleast|bitsecret|customsecret|01234567|12345678|abcdefgh|qwerty|mlfs4tt99kooq|oqinaroshte9|" +
		"09d25e094faa6ca2|404e635266556a58|413f4428472b4b62|5367566b59703373|3cfa76ef14937c1c|aym1syspp|hjtxiz2usn5")
	wordSeparators = strings.NewReplacer("-", "", "_", "", " ", "", ".", "")
)

// countDistinctBytes counts the different bytes in a text, up to a limit.
func countDistinctBytes(text string) int {
	found := 0
	for ; text != "" && found < 8; found++ {
		text = strings.ReplaceAll(text, text[:1], "")
	}
	return found
}

// addressParts finds host and path in whatever was written as an address.
var addressParts = regexp.MustCompile(`(?s)^(\w+://)?([^/?#@]*@)?(.*?)(/\.well-known/openid-configuration)?([?#].*)?$`)

// addressUserInfo matches what comes before the host in an address, where people put passwords.
var addressUserInfo = regexp.MustCompile(`(?s)(//|^).*@`)

// toText returns a single value as a label would write it. Lists and blocks are not single values.
func toText(raw any) (string, bool) {
	if text, isText := raw.(string); isText || raw == nil {
		return strings.TrimSpace(text), true
	}
	kind := reflect.ValueOf(raw).Kind()
	return strings.TrimSpace(fmt.Sprint(raw)), kind != reflect.Map && kind != reflect.Slice
}

// sortedNames returns the names in a block, sorted. No name may occur twice: of X-User and x-user, either could win.
func sortedNames(o *option, block map[string]any) []string {
	var names []string
	for name := range block {
		names = append(names, name)
	}
	sort.Strings(names)
	seen := map[string]bool{}
	for _, name := range names {
		folded := strings.ToLower(name)
		if seen[folded] {
			o.p.add(under(o, name), "given twice, with other capital letters; keep one")
		}
		seen[folded] = true
	}
	return names
}

// suggestion says which option an unknown one was probably meant to be: one with the same name elsewhere, otherwise the most similar here.
func suggestion(o *option, name string) string {
	var below, elsewhere []string
	closest, most := "{}", math.MinInt32 // a block without options
	for _, path := range optionPaths(reflect.TypeOf(Config{}), "") {
		last := path[strings.LastIndex(path, ".")+1:]
		score := similarity(strings.ToLower(last), strings.ToLower(name))
		if strings.EqualFold(last, name) {
			elsewhere = append(elsewhere, path)
			if strings.HasPrefix(path, o.path+".") {
				below = append(below, path)
			}
		} else if score > most && path == under(o, last) {
			closest = last
			most = score
		}
	}
	if len(below) > 0 {
		elsewhere = below
	}
	if here := optionFor(under(o, name)); here != "" && len(below) == 0 {
		return "here it is " + here
	}
	if len(elsewhere) > 0 {
		return "its place is " + strings.Join(elsewhere, " or ")
	}
	if isSimilar(name, closest) || closest == "{}" {
		return fmt.Sprintf("did you mean %q?", closest)
	}
	return "nothing here has a name like it; see docs/reference.md"
}

// isSimilar reports whether one name was probably meant to be the other.
func isSimilar(name, other string) bool {
	name = strings.ToLower(name)
	other = strings.ToLower(other)
	return 2*similarity(name, other) >= len(other) || len(name) > 3 && strings.Contains(other, name) || len(other) > 3 && strings.Contains(name, other)
}

// optionPaths lists every option below a block, with its path.
func optionPaths(block reflect.Type, prefix string) []string {
	if block.Kind() == reflect.Ptr {
		block = block.Elem()
	}
	var paths []string
	for i := 0; block.Kind() == reflect.Struct && i < block.NumField(); i++ {
		field := block.Field(i)
		at := prefix
		if name := field.Tag.Get("json"); name != "" {
			paths = append(paths, prefix+name)
			at = prefix + name + "."
		}
		paths = append(paths, optionPaths(field.Type, at)...)
	}
	return paths
}

// similarity counts the letter pairs that two names share, minus the difference of their lengths.
func similarity(a, b string) int {
	score := 1 - int(math.Abs(float64(len(a)-len(b))))
	for i := 2; i <= len(a); i++ {
		if strings.Contains(b, a[i-2:i]) {
			score++
		}
	}
	return score
}

// location is one of our addresses. If scheme and host are empty, the request's are used. The path is escaped, and includes the query, if
// there is one.
type location struct{ scheme, host, path string }

// parseLocation reads Traefik Hub's three forms of an address: a path (`/x`), host and path (`example.com/x`), or a URL.
func parseLocation(text string) (location, error) {
	isPath, full := strings.HasPrefix(text, "/"), text
	if isPath {
		full = "//host" + text
	} else if !strings.Contains(text, "://") {
		full = "//" + text
	}
	u, err := url.Parse(full)
	if err != nil || !contains([]string{"", "http", "https"}, u.Scheme) || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return location{}, errors.New(`must be a path ("/x"), host and path ("app.example.com/x"), or an http(s) URL, without a fragment`)
	}
	if utf8.RuneCountInString(u.Host) != len(u.Host) {
		return location{}, errForeignHost // browsers send a host in its ASCII form
	}
	if below := "/a" + u.Path; path.Clean(below) != strings.TrimSuffix(below, "/") {
		return location{}, errors.New("must not have . or .. or // in its path")
	}
	// A path without its leading slash looks like a host.
	if u.Scheme == "" && !isPath && (u.Path == "" || !strings.ContainsAny(u.Host, ".:") && u.Host != "localhost") {
		return location{}, errors.New(`must be a path ("/x"), host and path, or an http(s) URL; a path begins with a slash`)
	}
	where := location{scheme: u.Scheme, path: u.RequestURI()}
	if !isPath {
		where.host = strings.ToLower(u.Host)
	}
	return where, nil
}
