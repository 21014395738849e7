package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// literal coerces a literal input as Python would (int(), float(), str(), bool()) and checks its limits. custom says that
// the class validates the field itself, which turns limits and lists off. INT values become int64, or uint64 above that.
func (s *Server) literal(in Input, given any, custom bool) (any, *promptError) {
	value, err := coerce(in.Type, given)
	if err != nil {
		return nil, &promptError{"invalid_input_type", "Failed to convert an input value to a " + in.Type + " value",
			fmt.Sprintf("%s, %s, %s", in.Name, pyStr(given), err),
			map[string]any{"input_name": in.Name, "input_config": in.config(s.options(in)), "received_value": given, "exception_message": err.Error()}}
	}
	if custom {
		return value, nil
	}
	config := func() map[string]any {
		return map[string]any{"input_name": in.Name, "input_config": in.config(s.options(in)), "received_value": value}
	}
	if n, ok := number(value); ok && in.Type != "COMBO" {
		if low, ok := number(in.Min); ok && n.Cmp(low) < 0 {
			return nil, &promptError{"value_smaller_than_min", fmt.Sprintf("Value %s smaller than min of %s", pyStr(value), pyStr(in.Min)), in.Name, config()}
		}
		if high, ok := number(in.Max); ok && n.Cmp(high) > 0 {
			return nil, &promptError{"value_bigger_than_max", fmt.Sprintf("Value %s bigger than max of %s", pyStr(value), pyStr(in.Max)), in.Name, config()}
		}
	}
	if in.Type != "COMBO" || s.accepts(in, value) {
		return value, nil
	}
	options, extra := s.options(in), config()
	shown := pyRepr(options)
	if len(options) > 20 {
		shown, extra["input_config"] = fmt.Sprintf("(list of length %d)", len(options)), nil
	}
	return nil, &promptError{"value_not_in_list", "Value not in list", fmt.Sprintf("%s: '%s' not in %s", in.Name, pyStr(value), shown), extra}
}

// accepts says whether a value is one of a COMBO's options. Model files are not listed unless Options.Models does.
func (s *Server) accepts(in Input, value any) bool {
	if in.Folder != "" && in.Folder != "input" && len(s.opts.Models) == 0 {
		name, ok := value.(string)
		return ok && name != ""
	}
	if in.Numbers {
		n, ok := number(value)
		return ok && slices.ContainsFunc(in.Options, func(o string) bool {
			want, err := strconv.ParseFloat(o, 64)
			return err == nil && n.Cmp(big.NewFloat(want)) == 0
		})
	}
	name, ok := value.(string)
	return ok && slices.Contains(s.options(in), name)
}

// number is a numeric value for comparing, exact for 64 bit integers.
func number(v any) (*big.Float, bool) {
	exact := func() *big.Float { return new(big.Float).SetPrec(128) }
	switch v := v.(type) {
	case int:
		return exact().SetInt64(int64(v)), true
	case int64:
		return exact().SetInt64(v), true
	case uint64:
		return exact().SetUint64(v), true
	case float64:
		if math.IsNaN(v) {
			return nil, false
		}
		return exact().SetFloat64(v), true
	case pyFloat:
		return exact().SetFloat64(float64(v)), true
	case json.Number:
		f, ok := exact().SetString(v.String())
		return f, ok
	}
	return nil, false
}

// coerce converts a JSON value to an input type; other types keep their value.
func coerce(kind string, v any) (any, error) {
	switch kind {
	case "INT":
		return toInt(v)
	case "FLOAT":
		return toFloat(v)
	case "STRING":
		return pyStr(v), nil
	case "BOOLEAN":
		return truth(v), nil
	}
	if n, ok := v.(json.Number); ok {
		return plainNumber(n), nil
	}
	return v, nil
}

func plainNumber(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	f, _ := n.Float64()
	return f
}

func toInt(v any) (any, error) {
	switch v := v.(type) {
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, nil
		}
		if u, err := strconv.ParseUint(v.String(), 10, 64); err == nil {
			return u, nil
		}
		f, err := v.Float64()
		if err != nil || math.Abs(f) > math.MaxUint64 {
			return f, nil // too large for any limit, and compared as such
		}
		return int64(f), nil
	case string:
		text := strings.ReplaceAll(strings.TrimSpace(v), "_", "")
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i, nil
		}
		if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			return u, nil
		}
		return nil, fmt.Errorf("invalid literal for int() with base 10: %s", pyRepr(v))
	}
	return nil, fmt.Errorf("int() argument must be a string, a bytes-like object or a real number, not '%s'", pyType(v))
}

func toFloat(v any) (any, error) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1.0, nil
		}
		return 0.0, nil
	case json.Number:
		f, _ := v.Float64() // out of range is infinity, as in Python
		return f, nil
	case string:
		if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return f, nil
		}
		return nil, fmt.Errorf("could not convert string to float: %s", pyRepr(v))
	}
	return nil, fmt.Errorf("float() argument must be a string or a real number, not '%s'", pyType(v))
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, _ := v.Float64()
		return f != 0
	case map[string]any:
		return len(v) > 0
	case []any:
		return len(v) > 0
	}
	return true
}

func pyType(v any) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case map[string]any:
		return "dict"
	case []any:
		return "list"
	}
	return "object"
}
