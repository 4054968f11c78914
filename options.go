package oidc

import (
	"reflect"
	"strconv"
	"strings"
)

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

// decodeBlock: to be written.
func decodeBlock(block reflect.Value, path string, raw map[string]interface{}, p *problems) {}

// location is an address of ours. What is empty is taken from the request.
type location struct{ scheme, host, path string }

// parseLocation reads a path (`/x`), host and path (`example.com/x`), or a URL.
func parseLocation(text string) (location, error) { return location{}, nil }
