package main

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// path leads to one value: names and places, from the document's root.
type path []any

// missing is what is found where nothing is.
var missing any = new(struct{ _ byte })

// parsePath reads `$.name["other name"][0]` at the beginning of a text, and gives what follows it.
func parsePath(text string) (path, string, error) {
	rest, found := strings.CutPrefix(text, "$")
	if !found {
		return nil, "", errors.New("a path begins with `$`")
	}
	where := path{}
	for {
		switch {
		case strings.HasPrefix(rest, "."):
			rest = rest[1:]
			end := strings.IndexAny(rest, ".[ \t=!<>")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, "", errors.New("a name is missing after `.`")
			}
			where = append(where, rest[:end])
			rest = rest[end:]
		case strings.HasPrefix(rest, "[\""):
			decoder := json.NewDecoder(strings.NewReader(rest[1:]))
			var name string
			if err := decoder.Decode(&name); err != nil {
				return nil, "", errors.New("a name in `[\"…\"]` is broken")
			}
			rest = rest[1+decoder.InputOffset():]
			if !strings.HasPrefix(rest, "]") {
				return nil, "", errors.New("`]` is missing")
			}
			where = append(where, name)
			rest = rest[1:]
		case strings.HasPrefix(rest, "["):
			number, after, found := strings.Cut(rest[1:], "]")
			place, err := strconv.Atoi(strings.TrimSpace(number))
			if !found || err != nil || place < 0 {
				return nil, "", errors.New("a place such as `[0]` is expected")
			}
			where = append(where, place)
			rest = after
		default:
			return where, rest, nil
		}
	}
}

func (p path) find(document any) any {
	for _, step := range p {
		switch step := step.(type) {
		case string:
			object, isObject := document.(map[string]any)
			value, found := object[step]
			if !isObject || !found {
				return missing
			}
			document = value
		case int:
			list, isList := document.([]any)
			if !isList || step >= len(list) {
				return missing
			}
			document = list[step]
		}
	}
	return document
}
