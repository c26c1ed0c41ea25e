// json-health reads a health document: conditions on values in JSON, and numbers in it as metrics.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"monmon"
)

const valueRunesMax = 200

type health struct {
	conditions []condition
	metrics    []metric
	values     []value
}

type metric struct {
	name string
	path path
	unit string
}

type value struct {
	name string
	path path
}

func (h *health) Describe() monmon.Description {
	return monmon.Description{
		Name:      "json-health",
		Version:   "0.1.0",
		Help:      "conditions on the values of a JSON document, and its numbers as metrics",
		NeedsBody: true,
		Parameters: []monmon.Parameter{
			{Name: "expect", Kind: monmon.Text, Many: true, Required: true,
				Help: "a condition such as `$.status == \"ok\"`, `$.db.latency_ms < 50`, `$.nodes[0].name exists`"},
			{Name: "metric", Kind: monmon.Text, Many: true,
				Help: "a number to keep: `latency = $.db.latency_ms ms`, the unit last"},
			{Name: "value", Kind: monmon.Text, Many: true, Help: "a text to keep: `release = $.version`"},
		},
	}
}

func (h *health) Configure(config []byte) error {
	var given struct{ Expect, Metric, Value []string }
	if err := json.Unmarshal(config, &given); err != nil {
		return err
	}
	for _, text := range given.Expect {
		condition, err := parseCondition(text)
		if err != nil {
			return fmt.Errorf("`expect` with `%s`: %w", text, err)
		}
		h.conditions = append(h.conditions, condition)
	}
	for _, text := range given.Metric {
		name, path, unit, err := parseNamed(text)
		if err != nil {
			return fmt.Errorf("`metric` with `%s`: %w", text, err)
		}
		h.metrics = append(h.metrics, metric{name, path, unit})
	}
	for _, text := range given.Value {
		name, path, rest, err := parseNamed(text)
		if err == nil && rest != "" {
			err = errors.New("something follows the path")
		}
		if err != nil {
			return fmt.Errorf("`value` with `%s`: %w", text, err)
		}
		h.values = append(h.values, value{name, path})
	}
	return nil
}

// parseNamed reads `name = $.path rest`.
func parseNamed(text string) (name string, where path, rest string, err error) {
	name, after, found := strings.Cut(text, "=")
	name = strings.TrimSpace(name)
	if !found || name == "" {
		return "", nil, "", errors.New("a name, `=` and a path are expected")
	}
	where, rest, err = parsePath(strings.TrimSpace(after))
	return name, where, strings.TrimSpace(rest), err
}

func (h *health) Check(response *monmon.Response) (monmon.Verdict, error) {
	var document any
	decoder := json.NewDecoder(bytes.NewReader(response.Body))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		if response.BodyTruncated {
			return monmon.Verdict{}, errors.New("the document was cut off")
		}
		return monmon.Verdict{Message: "the body is not JSON: " + err.Error()}, nil
	}
	if decoder.More() {
		return monmon.Verdict{Message: "something follows the JSON document"}, nil
	}
	verdict := monmon.Verdict{Matched: true}
	var wrong []string
	for _, condition := range h.conditions {
		if complaint := condition.complaint(document); complaint != "" {
			wrong = append(wrong, complaint)
		}
	}
	if len(wrong) > 0 {
		verdict.Matched = false
		verdict.Message = strings.Join(wrong, "; ")
	}
	for _, metric := range h.metrics {
		if number, ok := metric.path.find(document).(json.Number); ok {
			if value, err := number.Float64(); err == nil {
				verdict.Metrics = append(verdict.Metrics, monmon.Metric{Name: metric.name, Value: value, Unit: metric.unit})
			}
		}
	}
	for _, value := range h.values {
		if found := value.path.find(document); found != missing {
			verdict.Values = append(verdict.Values, monmon.Value{Name: value.name, Value: show(found)})
		}
	}
	return verdict, nil
}

// show gives a value as a short text.
func show(value any) string {
	text, isText := value.(string)
	if !isText {
		written, err := json.Marshal(value)
		if err != nil {
			return "?"
		}
		text = string(written)
	}
	if runes := []rune(text); len(runes) > valueRunesMax {
		text = string(runes[:valueRunesMax]) + "…"
	}
	return text
}

func init() { monmon.Register(&health{}) }

func main() {}
