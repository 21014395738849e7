package sim

import (
	"math"
	"strconv"
	"strings"
)

// pyFloat is a float that is written as Python writes it: 8.0 and not 8, so that definitions and messages read alike.
type pyFloat float64

// MarshalJSON writes the number with a fraction.
func (f pyFloat) MarshalJSON() ([]byte, error) { return []byte(f.String()), nil }

func (f pyFloat) String() string {
	v := float64(f)
	switch {
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	case math.IsNaN(v):
		return "NaN"
	}
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if abs := math.Abs(v); abs >= 1e-4 && abs < 1e16 || v == 0 {
		text = strconv.FormatFloat(v, 'f', -1, 64)
	}
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// pyRepr is Python's repr of a JSON value, as validation messages show it.
func pyRepr(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			return `"` + v + `"`
		}
		r := strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
		return "'" + r.Replace(v) + "'"
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = pyRepr(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []any:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = pyRepr(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range sortedKeys(v) {
			parts = append(parts, pyRepr(k)+": "+pyRepr(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return pyStr(v)
}

// pyStr is Python's str of a JSON value.
func pyStr(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return pyFloat(v).String()
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case interface{ String() string }:
		return v.String()
	}
	return pyRepr(v)
}
