package lift

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// FuzzLift holds Lift against encoding/json: both take the same documents, and see the same strings at media[*].data.
func FuzzLift(f *testing.F) {
	for _, doc := range []string{
		`{"media":[{"name":"a","data":"aGVsbG8="}],"workflow":{"1":{"class_type":"X","inputs":{}}}}`,
		`{"Media":[{"DATA":"\/\/8=\n"},{"data":"data:image/png;base64,AAAA"}]}`,
		`{"media":[{"data":"AAAA","data":"BBBB"}],"media":[{"dat\u0061":"CC"}]}`,
		`{"media":[{"data":"A\u0041A="},{"data":null},{"data":{"data":"AAAA"}}]} `,
		`{"media":[{"data":"tru e"}], tru e}`,
		"{\"media\":[{\"data\":\"QQ==\x00\"}]}",
		`{"media":[{"data":"\uD83D\uDE00"}]}`,
		`{"mediA":[{"ſdata":"AAAA"}]}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var sinks []*bytes.Buffer
		rest, lifted, err := Lift(bytes.NewReader(doc), Options{
			Fields: []Field{{Path: []string{"media", "*", "data"}}},
			Sink: func(string) (io.Writer, error) {
				sinks = append(sinks, &bytes.Buffer{})
				return sinks[len(sinks)-1], nil
			},
			MaxItems: 1 << 20, MaxItem: 1 << 20, MaxRest: 1 << 20, MaxTotal: 1 << 20,
		})
		if !json.Valid(doc) {
			if err == nil && json.Valid(rest) {
				t.Fatalf("became valid: %q", rest)
			}
			return
		}
		want := mediaStrings(t, doc)
		var decoded [][]byte
		for _, s := range want {
			b, ok := reference(s)
			if !ok {
				var e *Error
				if !errors.As(err, &e) || e.Kind != Encoding {
					t.Fatalf("%q is no base64, and Lift says %v", s, err)
				}
				return
			}
			decoded = append(decoded, b)
		}
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		if len(lifted) != len(want) {
			t.Fatalf("lifted %d of %d", len(lifted), len(want))
		}
		back := string(rest)
		for i := range lifted {
			if !bytes.Equal(sinks[i].Bytes(), decoded[i]) {
				t.Fatalf("string %d: %q, want %q", i, sinks[i].Bytes(), decoded[i])
			}
			quoted, _ := json.Marshal(want[i])
			back = strings.Replace(back, `"`+lifted[i].Mark+`"`, string(quoted), 1)
		}
		var a, b any
		if err := json.Unmarshal([]byte(back), &a); err != nil {
			t.Fatalf("the rest is not JSON: %v", err)
		}
		if err := json.Unmarshal(doc, &b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("the rest means something else: %q", rest)
		}
	})
}

// reference decodes with the standard library what Lift is to accept.
func reference(s string) ([]byte, bool) {
	if len(s) >= 5 && strings.EqualFold(s[:5], "data:") {
		meta, data, found := strings.Cut(s, ",")
		if !found || !strings.HasSuffix(strings.ToLower(meta), ";base64") || len(meta) > maxMediaType {
			return nil, false
		}
		s = data
	}
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, s)
	encoding := base64.RawStdEncoding
	if strings.Contains(s, "=") {
		encoding = base64.StdEncoding
	}
	b, err := encoding.DecodeString(s)
	return b, err == nil
}

// mediaStrings lists the strings at media[*].data of a valid document in order, those of repeated keys too.
func mediaStrings(t *testing.T, doc []byte) (out []string) {
	d := json.NewDecoder(bytes.NewReader(doc))
	type frame struct {
		object, wantsKey bool
		key              string
	}
	var stack []frame
	value := func() {
		if n := len(stack); n > 0 && stack[n-1].object {
			stack[n-1].wantsKey = true
		}
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Skip(err) // deeper than the token reader goes
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				stack = append(stack, frame{object: v == '{', wantsKey: v == '{'})
				continue
			}
			stack = stack[:len(stack)-1]
			value()
		case string:
			n := len(stack)
			if n > 0 && stack[n-1].wantsKey {
				stack[n-1].key, stack[n-1].wantsKey = v, false
				continue
			}
			if n == 3 && stack[0].object && strings.EqualFold(stack[0].key, "media") && !stack[1].object &&
				stack[2].object && strings.EqualFold(stack[2].key, "data") {
				out = append(out, v)
			}
			value()
		default:
			value()
		}
	}
}
