// Command reference makes docs/reference.md and docs/oidc.schema.json of the comments and tags in config.go, so that what users
// and their editors read is what the plugin does. Run it here: go run .
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

const (
	sourceFile    = "../../config.go"
	referenceFile = "../reference.md"
	schemaFile    = "../oidc.schema.json"
)

func main() {
	log.SetFlags(0)
	sections, blocks, err := read(sourceFile)
	if err != nil {
		log.Fatal(err)
	}
	schema, err := schemaOf(blocks)
	if err != nil {
		log.Fatal(err)
	}
	for name, content := range map[string][]byte{referenceFile: referenceOf(sections, blocks), schemaFile: schema} {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// option is one field of a block.
type option struct {
	name        string // as it is written in a configuration
	kind        string // string, bool, int, list, map, or the name of a block
	isSwitch    bool   // a block that is switched on by being there
	description string
	byDefault   string // what the comment says of a default that depends on something
	required    string // what the comment says of when it is required
	tag         reflect.StructTag
}

// section is a part of Config.
type section struct {
	title   string
	options []option
}

// read finds the sections of Config, and the options of every block.
func read(file string) ([]section, map[string][]option, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, nil, parser.ParseComments)
	if err != nil {
		return nil, nil, err
	}
	structs := map[string]*ast.StructType{}
	for _, declaration := range tree.Decls {
		types, ok := declaration.(*ast.GenDecl)
		if !ok || types.Tok != token.TYPE {
			continue
		}
		spec := types.Specs[0].(*ast.TypeSpec)
		fields, ok := spec.Type.(*ast.StructType)
		if ok && strings.HasSuffix(spec.Name.Name, "Config") && spec.Name.Name != "RawConfig" {
			structs[spec.Name.Name] = fields
		}
	}
	var sections []section
	blocks := map[string][]option{}
	for name, fields := range structs {
		titles := loneComments(tree, fields)
		blocks[name] = []option{}
		for _, field := range fields.Fields.List {
			options, err := readField(field, structs)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", set.Position(field.Pos()), err)
			}
			blocks[name] = append(blocks[name], options...)
			if name != "Config" {
				continue
			}
			for len(titles) > 0 && titles[0].Pos() < field.Pos() {
				sections = append(sections, section{title: strings.TrimSuffix(strings.TrimSpace(titles[0].Text()), ".")})
				titles = titles[1:]
			}
			if len(sections) == 0 {
				return nil, nil, fmt.Errorf("%s: the option stands before the first section", set.Position(field.Pos()))
			}
			last := &sections[len(sections)-1]
			last.options = append(last.options, options...)
		}
	}
	return sections, withoutEmbedded(blocks), nil
}

// readField reads the option of a field, or all options of a block that is embedded. A comment on it stands for the comments there.
func readField(field *ast.Field, structs map[string]*ast.StructType) ([]option, error) {
	if len(field.Names) > 0 {
		o, err := readOption(field)
		return []option{o}, err
	}
	embedded, _, err := kindOf(field.Type)
	if err != nil || structs[embedded] == nil {
		return nil, fmt.Errorf("nothing is known of the embedded %s", embedded)
	}
	var options []option
	for _, inner := range structs[embedded].Fields.List {
		more, err := readField(inner, structs)
		if err != nil {
			return nil, err
		}
		options = append(options, more...)
	}
	if field.Doc == nil {
		return options, nil
	}
	said, err := readWords(field.Doc, embedded)
	for i := range options {
		options[i].description = said.description
		options[i].byDefault = said.byDefault
		options[i].required = said.required
	}
	return options, err
}

// withoutEmbedded leaves out the blocks that no option has: those that are only embedded.
func withoutEmbedded(blocks map[string][]option) map[string][]option {
	used := map[string][]option{"Config": blocks["Config"]}
	for _, options := range blocks {
		for _, o := range options {
			if blocks[o.kind] != nil {
				used[o.kind] = blocks[o.kind]
			}
		}
	}
	return used
}

// loneComments are the comments in a struct that belong to no field.
func loneComments(tree *ast.File, fields *ast.StructType) []*ast.CommentGroup {
	owned := map[*ast.CommentGroup]bool{}
	for _, field := range fields.Fields.List {
		owned[field.Doc] = true
		owned[field.Comment] = true
	}
	var lone []*ast.CommentGroup
	for _, group := range tree.Comments {
		if group.Pos() > fields.Pos() && group.End() < fields.End() && !owned[group] {
			lone = append(lone, group)
		}
	}
	return lone
}

// sentences ends where a full stop is followed by a capital letter or a name in back-ticks that begins the next sentence.
var sentenceEnd = regexp.MustCompile(`\. +`)

func readOption(field *ast.Field) (option, error) {
	o := option{}
	if len(field.Names) != 1 || field.Tag == nil || field.Doc == nil {
		return o, fmt.Errorf("a field needs a name of its own, a tag and a comment")
	}
	tag, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		return o, err
	}
	o.tag = reflect.StructTag(tag)
	o.name = o.tag.Get("json")
	if o.kind, o.isSwitch, err = kindOf(field.Type); err != nil {
		return o, err
	}
	said, err := readWords(field.Doc, field.Names[0].Name)
	o.description, o.byDefault, o.required = said.description, said.byDefault, said.required
	if err != nil {
		return o, err
	}
	if values := o.tag.Get("enum"); values != "" && !namesAll(o.description, values) {
		o.description += " One of `" + strings.ReplaceAll(values, "|", "`, `") + "`."
	}
	if alias := o.tag.Get("alias"); alias != "" {
		o.description += " May also be written `" + alias + "`."
	}
	return o, nil
}

// readWords reads the comment on a field.
func readWords(comment *ast.CommentGroup, field string) (option, error) {
	o := option{}
	text := strings.Join(strings.Fields(comment.Text()), " ")
	name, text, _ := strings.Cut(text, " ")
	if name != field {
		return o, fmt.Errorf("the comment must begin with %s", field)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "is "), "are ")
	var rest []string
	for _, sentence := range sentenceEnd.Split(strings.TrimSuffix(text, "."), -1) {
		if value, ok := strings.CutPrefix(sentence, "Default: "); ok {
			o.byDefault = value
		} else if value, ok := strings.CutPrefix(sentence, "Required"); ok {
			o.required = strings.TrimLeft(value, ": ")
			if o.required == "" {
				o.required = "yes"
			}
		} else {
			rest = append(rest, sentence)
		}
	}
	o.description = upperFirst(strings.Join(rest, ". ")) + "."
	return o, nil
}

func namesAll(text, values string) bool {
	for _, value := range strings.Split(values, "|") {
		if !strings.Contains(text, value) {
			return false
		}
	}
	return true
}

func upperFirst(text string) string {
	return strings.ToUpper(text[:1]) + text[1:]
}

// kindOf names the kind of a field's type.
func kindOf(expression ast.Expr) (kind string, isSwitch bool, err error) {
	switch t := expression.(type) {
	case *ast.Ident:
		return t.Name, false, nil
	case *ast.StarExpr:
		kind, _, err = kindOf(t.X)
		return kind, strings.HasSuffix(kind, "Config"), err
	case *ast.ArrayType:
		return "list", false, nil
	case *ast.MapType:
		return "map", false, nil
	}
	return "", false, fmt.Errorf("fields of this type are not known to docs/reference")
}

const introduction = `<!-- Made of config.go by docs/reference. To change it, change the comments there and run: go run -C docs/reference . -->

# Options

All options stand below the plugin's name, ` + "`plugin.oidc`" + ` in a middleware. None is required on its own: set ` + "`issuer`" + ` and ` + "`clientId`" + ` for
sign-in, or one of the blocks ` + "`jwt`" + `, ` + "`oAuthIntrospection`" + `, ` + "`oAuthClientCredentials`" + `, or several of them.

- **Names** are matched without regard to case. An option that does not exist is refused, at any depth: a misspelt ` + "`claims`" + ` must not
  open a route. All problems of a configuration are reported in one line.
- **Values** may be written as text wherever a number, a switch or a list is meant, as labels do: ` + "`\"3600\"`, `\"true\"`, `\"openid, email\"`" + `. An empty
  value leaves the default.
- **Blocks** that switch something on by being there (` + "`csrf`, `jwt`, `cluster`" + ` …) may be written ` + "`{}`" + ` or ` + "`true`" + `; ` + "`false`" + ` is off.
- **Secrets** need not stand in the configuration. Any value may be ` + "`${NAME}`" + `, an environment variable of Traefik (in a Compose file
  ` + "`$${NAME}`" + `), or ` + "`${file:/path}`" + `, the content of a file without white space around it; also within a text, except in secrets.
  With Traefik's Kubernetes CRD provider, and only there, ` + "`urn:k8s:secret:name:key`" + ` reads a Secret in the middleware's namespace.
- **Addresses** of ours (` + "`redirectUrl`, `logoutUrl`" + ` …) are a path (` + "`/oidc/callback`" + `), host and path (` + "`app.example.com/oidc/callback`" + `), or a URL.
- **Editors** complete and check the block with [oidc.schema.json](oidc.schema.json).
`

// referenceOf writes the reference: a table per section, blocks in full below the option that holds them.
func referenceOf(sections []section, blocks map[string][]option) []byte {
	var b strings.Builder
	b.WriteString(introduction)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| Field | Description | Default | Required |\n|---|---|---|---|\n", s.title)
		writeRows(&b, "", s.options, blocks)
	}
	return []byte(b.String())
}

func writeRows(b *strings.Builder, prefix string, options []option, blocks map[string][]option) {
	for _, o := range options {
		name := prefix + o.name
		required := o.required
		if required == "" {
			required = "no"
		}
		fmt.Fprintf(b, "| <a id=\"%s\"></a>`%s` | %s | %s | %s |\n", name, name, cell(o.description), cell(defaultOf(o)), cell(upperFirst(required)))
		writeRows(b, name+".", blocks[o.kind], blocks)
	}
}

// defaultOf is the text of the column Default.
func defaultOf(o option) string {
	value, ok := o.tag.Lookup("default")
	if o.byDefault != "" {
		return upperFirst(o.byDefault)
	}
	if !ok {
		return ""
	}
	return "`" + strings.ReplaceAll(value, ",", "`, `") + "`"
}

// cell fits Markdown into a table.
func cell(text string) string {
	text = strings.NewReplacer("“", "`` ", "”", " ``").Replace(text)
	return strings.ReplaceAll(text, "|", `\|`)
}

// schema is a JSON Schema (draft 7, which editors know best).
type schema map[string]interface{}

// reference is a text with ${NAME} or ${file:/path} somewhere.
const reference = `\$\{.+\}`

func schemaOf(blocks map[string][]option) ([]byte, error) {
	definitions := schema{}
	for name, options := range blocks {
		if name != "Config" {
			definitions[name] = blockSchema(options)
		}
	}
	root := blockSchema(blocks["Config"])
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "The options of the Traefik plugin oidc"
	root["definitions"] = definitions
	data, err := json.MarshalIndent(root, "", "  ")
	return append(data, '\n'), err
}

func blockSchema(options []option) schema {
	properties := schema{}
	var required []string
	for _, o := range options {
		properties[o.name] = optionSchema(o)
		if alias := o.tag.Get("alias"); alias != "" {
			properties[alias] = optionSchema(o)
		}
		if o.required == "yes" {
			required = append(required, o.name)
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return s
}

func optionSchema(o option) schema {
	s := valueSchema(o)
	s["description"] = strings.NewReplacer("“", "", "”", "").Replace(o.description)
	value, ok := o.tag.Lookup("default")
	switch {
	case !ok:
	case o.kind == "bool":
		s["default"] = value == "true"
	case o.kind == "int":
		number, _ := strconv.Atoi(value)
		s["default"] = number
	case o.kind == "list":
		s["default"] = strings.Split(value, ",")
	default:
		s["default"] = value
	}
	return s
}

// valueSchema is what a value may be: as it should be written, or as text the way labels have it.
func valueSchema(o option) schema {
	text := func(pattern string) schema { return schema{"type": "string", "pattern": "^(" + pattern + ")?$"} }
	scalar := schema{"type": []string{"string", "number", "boolean"}}
	one := scalar
	if values := o.tag.Get("enum"); values != "" {
		list := strings.Split(values, "|")
		one = schema{"anyOf": []schema{{"enum": list}, text(reference)}}
		if list[len(list)-1] == "false" { // par: true
			one = schema{"anyOf": []schema{{"enum": list}, {"type": "boolean"}, text(reference)}}
		}
	}
	switch o.kind {
	case "string":
		return copyOf(one)
	case "bool":
		return schema{"anyOf": []schema{{"type": "boolean"}, text("true|false|True|False|1|0|" + reference)}}
	case "int":
		number := schema{"type": "integer", "minimum": 0}
		for limit, name := range map[string]string{"min": "minimum", "max": "maximum"} {
			if value, err := strconv.Atoi(o.tag.Get(limit)); err == nil {
				number[name] = value
			}
		}
		return schema{"anyOf": []schema{number, text(`[0-9]+|` + reference)}}
	case "list":
		return schema{"anyOf": []schema{{"type": "array", "items": one}, {"type": "string"}}}
	case "map":
		entries := schema{"type": "object", "additionalProperties": scalar}
		if values := o.tag.Get("enum"); values != "" {
			entries["propertyNames"] = schema{"enum": strings.Split(values, "|")}
		}
		return schema{"anyOf": []schema{entries, {"type": "string", "pattern": "^([^=,]+=[^,]*(,|$))*$"}}}
	}
	block := schema{"$ref": "#/definitions/" + o.kind}
	if o.isSwitch {
		return schema{"anyOf": []schema{block, {"type": "boolean"}, {"enum": []string{"true", "false", ""}}}}
	}
	return schema{"anyOf": []schema{block, {"enum": []string{""}}}}
}

func copyOf(s schema) schema {
	c := schema{}
	for name, value := range s {
		c[name] = value
	}
	return c
}
