package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func runValue(c *call) (*result, error) { return give(c.in["value"]) }

func runConcatenate(c *call) (*result, error) {
	return give(c.str("string_a") + c.str("delimiter") + c.str("string_b"))
}

func runReplace(c *call) (*result, error) {
	return give(strings.ReplaceAll(c.str("string"), c.str("find"), c.str("replace")))
}

// showText is a ui with texts.
func showText(texts ...any) ordered { return ordered{{"text", texts}} }

// asText is a value as PreviewAny shows it.
func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case string:
		return v
	case bool, int64, uint64, float64:
		return pyStr(v)
	case fmt.Stringer:
		return v.String()
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

func runPreviewAny(c *call) (*result, error) {
	text := asText(c.in["source"])
	return &result{values: []any{text}, ui: showText(text)}, nil
}

func runShowText(c *call) (*result, error) {
	list, _ := c.in["text"].([]any)
	return &result{values: []any{list}, ui: showText(list...)}, nil
}

func runSaveText(c *call) (*result, error) {
	text := c.str("text")
	place, err := c.s.savePlace(c.s.dirs.output, c.str("filename_prefix"), 0, 0)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s_%05d.%s", place.name, place.counter, c.str("format"))
	if err := c.s.writeFile(filepath.Join(place.dir, name), func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	}); err != nil {
		return nil, err
	}
	ui := append(showText(text), field{"files", []any{savedFile(name, place.subfolder, "output")}})
	return &result{values: []any{text}, ui: ui}, nil
}
