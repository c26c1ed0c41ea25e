package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// condition is what is expected of one value.
type condition struct {
	text     string
	path     path
	operator string
	operand  any
}

// The longer ones first: `<` begins `<=`.
var operators = []string{"==", "!=", "<=", ">=", "<", ">"}

func parseCondition(text string) (condition, error) {
	where, rest, err := parsePath(strings.TrimSpace(text))
	if err != nil {
		return condition{}, err
	}
	rest = strings.TrimSpace(rest)
	if rest == "exists" {
		return condition{text: text, path: where, operator: rest}, nil
	}
	for _, operator := range operators {
		after, found := strings.CutPrefix(rest, operator)
		if !found {
			continue
		}
		decoder := json.NewDecoder(strings.NewReader(after))
		decoder.UseNumber()
		var operand any
		if err := decoder.Decode(&operand); err != nil || decoder.More() {
			return condition{}, errors.New("a JSON value is expected behind the operator, a text in double quotes")
		}
		if _, isNumber := operand.(json.Number); !isNumber && operator != "==" && operator != "!=" {
			return condition{}, fmt.Errorf("`%s` compares numbers", operator)
		}
		return condition{text, where, operator, operand}, nil
	}
	return condition{}, fmt.Errorf("one of exists, %s is expected behind the path", strings.Join(operators, ", "))
}

// complaint says what is other than expected; "" if nothing is.
func (c condition) complaint(document any) string {
	found := c.path.find(document)
	if found == missing {
		return fmt.Sprintf("%s: nothing is there", c.text)
	}
	if c.operator == "exists" {
		return ""
	}
	one, oneIsNumber := float(found)
	other, otherIsNumber := float(c.operand)
	numbers := oneIsNumber && otherIsNumber
	var holds bool
	switch c.operator {
	case "==":
		holds = numbers && one == other || !numbers && reflect.DeepEqual(found, c.operand)
	case "!=":
		holds = numbers && one != other || !numbers && !reflect.DeepEqual(found, c.operand)
	case "<":
		holds = numbers && one < other
	case "<=":
		holds = numbers && one <= other
	case ">":
		holds = numbers && one > other
	case ">=":
		holds = numbers && one >= other
	}
	if holds {
		return ""
	}
	return fmt.Sprintf("%s: it is %s", c.text, show(found))
}

func float(value any) (float64, bool) {
	number, isNumber := value.(json.Number)
	if !isNumber {
		return 0, false
	}
	float, err := number.Float64()
	return float, err == nil
}
