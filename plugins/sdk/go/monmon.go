// Package monmon is for matchers of monmon: WebAssembly plugins that look at one response and say whether it is as it
// should be.
package monmon

import "strings"

// Matcher is what a plugin does.
type Matcher interface {
	// Describe says what the plugin is and takes. It must always say the same.
	Describe() Description
	// Configure is called once on every new instance, with the pipeline's `config { }` as a JSON object. An error refuses
	// it, in words for whoever wrote it.
	Configure(config []byte) error
	// Check looks at a response. An error says that it could not be decided.
	Check(response *Response) (Verdict, error)
}

// Register makes a plugin of a matcher. Call it in an init function of package main.
func Register(m Matcher) { matcher = m }

var matcher Matcher

// Description is what a plugin is.
type Description struct {
	Name, Version, Help     string
	NeedsBody, NeedsHeaders bool
	Parameters              []Parameter
}

// Kind is the type of a parameter's value.
type Kind uint8

const (
	Boolean Kind = iota
	Integer
	Number
	Text
)

// Parameter is one thing that `config { }` may say.
type Parameter struct {
	Name     string
	Kind     Kind
	Many     bool // any number of values: a JSON array
	Required bool
	Default  string // for people to read
	OneOf    []string
	Min, Max *float64
	Help     string
}

// Header is one header line; its name is in lower case.
type Header struct {
	Name  string
	Value []byte
}

// Phases says where the time went, in microseconds; nil for what did not take place.
type Phases struct {
	DNS, Connect, TLS, Wait, Transfer *uint64
	Total                             uint64
}

// Response is what the site answered. It is gone when Check returns.
type Response struct {
	URL           string
	Status        uint16
	Headers       []Header
	Body          []byte
	BodyTruncated bool
	Phases        Phases
}

// Header gives the first header of this name, or "".
func (r *Response) Header(name string) string {
	for _, header := range r.Headers {
		if strings.EqualFold(header.Name, name) {
			return string(header.Value)
		}
	}
	return ""
}

// Value is something that was read from the response.
type Value struct{ Name, Value string }

// Metric is a number with its unit, such as "ms"; an empty unit for a bare number.
type Metric struct {
	Name  string
	Value float64
	Unit  string
}

// Verdict is the plugin's word on a response.
type Verdict struct {
	Matched bool
	Message string // why, in one line; "" for none
	Values  []Value
	Metrics []Metric
}

// Level is how important a line of the log is.
type Level uint32

const (
	Debug Level = iota
	Info
	Warn
	Error
)
