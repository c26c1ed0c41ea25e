// A plugin of monmon: looks for words in the body of a page.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"monmon"
)

type words struct {
	Words []string `json:"words"`
}

func (w *words) Describe() monmon.Description {
	return monmon.Description{
		Name:      "plugin-name",
		Version:   "0.1.0",
		Help:      "looks for words in the body",
		NeedsBody: true,
		Parameters: []monmon.Parameter{
			{Name: "words", Kind: monmon.Text, Many: true, Required: true, Help: "words that the body must have"},
		},
	}
}

func (w *words) Configure(config []byte) error { return json.Unmarshal(config, w) }

func (w *words) Check(response *monmon.Response) (monmon.Verdict, error) {
	size := monmon.Metric{Name: "size", Value: float64(len(response.Body)), Unit: "bytes"}
	verdict := monmon.Verdict{Matched: true, Metrics: []monmon.Metric{size}}
	for _, word := range w.Words {
		if !bytes.Contains(response.Body, []byte(word)) {
			verdict.Matched = false
			verdict.Message = fmt.Sprintf("`%s` is missing", word)
			break
		}
	}
	return verdict, nil
}

func init() { monmon.Register(&words{}) }

func main() {}
