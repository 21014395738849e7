package workflows

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// checkNode holds one node's inputs against its definition, or only its links when there is none.
func (f *findings) checkNode(n *Node, d *Defs) {
	c, known := d.Class(n.Class)
	if known {
		for _, def := range c.Inputs {
			if _, ok := n.Input(def.Name); !ok && def.Required && !def.dynamic() {
				f.add(n, def.error("required_input_missing", "Required input is missing", def.Name, nil))
			}
		}
	}
	for _, in := range n.inputs {
		def := InputDef{Name: in.Name}
		if known {
			if found, ok := c.Input(in.Name); ok {
				def = found
			}
		}
		var e *nodeError
		switch {
		case in.isArray():
			e = f.checkLink(in, def, d)
		case known && def.Type != "":
			e = checkLiteral(in, def, c)
		}
		if e != nil {
			f.add(n, *e)
		}
	}
}

// dynamic reports whether the engine makes the real inputs out of this one (COMFY_AUTOGROW_V3 and its like): they
// appear in graphs as "images.image0", and only the engine can say which must be there.
func (in InputDef) dynamic() bool { return strings.HasPrefix(in.Type, "COMFY_") }

func (in InputDef) error(kind, message, details string, extra map[string]any) nodeError {
	info := map[string]any{"input_name": in.Name}
	// ComfyUI leaves long lists out, too.
	if len(in.config) > 0 && len(in.Options) <= 20 && kind != "required_input_missing" {
		info["input_config"] = in.config
	}
	for k, v := range extra {
		info[k] = v
	}
	return nodeError{Type: kind, Message: message, Details: details, ExtraInfo: info}
}

func (f *findings) checkLink(in Input, def InputDef, d *Defs) *nodeError {
	link, ok := in.Link()
	if !ok {
		e := def.error("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", def.Name,
			map[string]any{"received_value": short(in.Value)})
		return &e
	}
	from, ok := f.graph.byID[link.Node]
	if !ok {
		e := def.error("bad_linked_input", "Linked node does not exist", fmt.Sprintf("%s: there is no node %q", def.Name, shorten(link.Node)),
			map[string]any{"linked_node": []any{link.Node, link.Slot}})
		return &e
	}
	c, ok := d.Class(from.Class)
	if !ok {
		return nil
	}
	if link.Slot >= len(c.Outputs) {
		e := def.error("bad_linked_input", "Linked output does not exist",
			fmt.Sprintf("%s: %s has %d outputs, not slot %d", def.Name, from.describe(), len(c.Outputs), link.Slot),
			map[string]any{"linked_node": []any{link.Node, link.Slot}})
		return &e
	}
	if received := c.Outputs[link.Slot]; def.Type != "" && !fits(received, def.Type) {
		e := def.error("return_type_mismatch", "Return type mismatch between linked nodes",
			fmt.Sprintf("%s, received_type(%s) mismatch input_type(%s)", def.Name, received, def.Type),
			map[string]any{"received_type": received, "linked_node": []any{link.Node, link.Slot}})
		return &e
	}
	return nil
}

// fits reports whether an output of one type may feed an input of another (comfy_execution/validation.py): equal, or a
// common member of two comma-separated unions, or "*". Choices and the types that nodes work out when they run are left
// to the engine.
func fits(received, wanted string) bool {
	for _, r := range strings.Split(received, ",") {
		r = strings.TrimSpace(r)
		if r == "*" || r == "COMBO" || strings.HasPrefix(r, "COMFY_") {
			return true
		}
		for _, w := range strings.Split(wanted, ",") {
			w = strings.TrimSpace(w)
			if w == r || w == "*" || w == "COMBO" || strings.HasPrefix(w, "COMFY_") {
				return true
			}
		}
	}
	return false
}

// checkLiteral checks a value that is not a link. ComfyUI converts scalars with int(), float(), str() and bool(), so
// "12" is a good INT; only what these refuse is an error.
func checkLiteral(in Input, def InputDef, c *Class) *nodeError {
	value := in.Value
	if value[0] == '{' {
		return nil // {"__value__": …} or a widget's own object: the node's business
	}
	switch def.Type {
	case "INT", "FLOAT":
		num, ok := toNumber(value, def.Type == "INT")
		if !ok {
			e := def.error("invalid_input_type", "Failed to convert an input value to a "+def.Type+" value",
				fmt.Sprintf("%s, %s", def.Name, short(value)), map[string]any{"received_value": short(value)})
			return &e
		}
		return checkRange(num, value, def)
	case "COMBO":
		// A custom node may accept more than it lists (VALIDATE_INPUTS), which its definition does not say.
		if def.Files || len(def.Options) == 0 || c.Custom() {
			return nil
		}
		if !slices.ContainsFunc(def.Options, func(o json.RawMessage) bool { return bytes.Equal(o, value) }) &&
			!slices.ContainsFunc(def.Options, func(o json.RawMessage) bool { return sameValue(o, value) }) {
			e := def.error("value_not_in_list", "Value not in list", fmt.Sprintf("%s: %s not in %s", def.Name, short(value), optionList(def.Options)),
				map[string]any{"received_value": short(value)})
			return &e
		}
	}
	return nil
}

func checkRange(num string, value json.RawMessage, def InputDef) *nodeError {
	if def.Min != "" && compare(num, string(def.Min)) < 0 {
		e := def.error("value_smaller_than_min", fmt.Sprintf("Value %s smaller than min of %s", num, def.Min), def.Name,
			map[string]any{"received_value": short(value)})
		return &e
	}
	if def.Max != "" && compare(num, string(def.Max)) > 0 {
		e := def.error("value_bigger_than_max", fmt.Sprintf("Value %s bigger than max of %s", num, def.Max), def.Name,
			map[string]any{"received_value": short(value)})
		return &e
	}
	return nil
}

// toNumber reads a JSON value as Python's int() or float() would and answers it as text, since a seed of 64 bits does
// not fit a float.
func toNumber(value json.RawMessage, integer bool) (string, bool) {
	text := string(value)
	fromText := value[0] == '"'
	switch {
	case text == "true":
		return "1", true
	case text == "false":
		return "0", true
	case text == "null":
		return "", false
	case fromText:
		text = strings.ReplaceAll(strings.TrimSpace(unquote(value)), "_", "")
	}
	if isInteger(text) {
		return text, true
	}
	if integer && fromText { // int("3.7") is an error in Python, int(3.7) is 3
		return "", false
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || len(text) > 400 {
		return "", false
	}
	if integer {
		whole, _ := new(big.Float).SetFloat64(v).Int(nil)
		return whole.String(), true
	}
	return text, true
}

func isInteger(s string) bool {
	digits := strings.TrimLeft(s, "+-")
	return len(digits) > 0 && len(s)-len(digits) <= 1 && len(digits) <= 400 &&
		strings.Trim(digits, "0123456789") == ""
}

// compare orders two numbers, exactly when both are integers.
func compare(a, b string) int {
	if x, err := strconv.ParseInt(a, 10, 64); err == nil {
		if y, err := strconv.ParseInt(b, 10, 64); err == nil {
			return cmp.Compare(x, y)
		}
	}
	if isInteger(a) && isInteger(b) {
		x, _ := new(big.Int).SetString(strings.TrimPrefix(a, "+"), 10)
		y, _ := new(big.Int).SetString(strings.TrimPrefix(b, "+"), 10)
		return x.Cmp(y)
	}
	x, _ := strconv.ParseFloat(a, 64) // out of range answers an infinity, which compares as it should
	y, _ := strconv.ParseFloat(b, 64)
	return cmp.Compare(x, y)
}

// sameValue compares two JSON scalars as Python does: by value, 1 equal to 1.0.
func sameValue(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	switch x.(type) {
	case string, float64, bool, nil:
		return x == y
	}
	return false
}

func optionList(options []json.RawMessage) string {
	const most = 20
	words := make([]string, 0, most+1)
	for i, o := range options {
		if i == most {
			words = append(words, fmt.Sprintf("… %d more", len(options)-most))
			break
		}
		words = append(words, short(o))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// short is a JSON value cut to what fits an error message.
func short(v json.RawMessage) string { return shorten(string(v)) }
