package lift

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func options(sinks *[]*bytes.Buffer) Options {
	return Options{
		Fields: []Field{
			{Path: []string{"media", "*", "data"}},
			{Path: []string{"inputs", "*", "value"}, Over: 16, Lenient: true},
		},
		Sink: func(string) (io.Writer, error) {
			b := &bytes.Buffer{}
			*sinks = append(*sinks, b)
			return b, nil
		},
		MaxItems: 3, MaxItem: 1 << 10, MaxRest: 1 << 20, MaxTotal: 2 << 20,
	}
}

func TestLiftTakesBase64OutAndKeepsEveryOtherByte(t *testing.T) {
	for name, c := range map[string]struct{ doc, rest, data string }{
		"plain":            {`{"media":[{"name":"a","data":"aGVsbG8="}]}`, `{"media":[{"name":"a","data":"%s"}]}`, "hello"},
		"no padding":       {`{"media":[{"data":"aGVsbG8"}]}`, `{"media":[{"data":"%s"}]}`, "hello"},
		"white space":      {"{ \"media\" :\n[ { \"data\" : \"aGVs bG8=\" } ] }\n", "{ \"media\" :\n[ { \"data\" : \"%s\" } ] }\n", "hello"},
		"escapes":          {`{"media":[{"data":"a\u0047Vs\nbG8\u003d\t"}]}`, `{"media":[{"data":"%s"}]}`, "hello"},
		"escaped slash":    {`{"media":[{"data":"\/\/\/\/"}]}`, `{"media":[{"data":"%s"}]}`, "\xff\xff\xff"},
		"data URL":         {`{"media":[{"data":"data:image/png;base64,aGVsbG8="}]}`, `{"media":[{"data":"%s"}]}`, "hello"},
		"looks like a URL": {`{"media":[{"data":"data"}]}`, `{"media":[{"data":"%s"}]}`, "\x75\xab\x5a"},
		"another case":     {`{"MEDIA":[{"Data":"aGVsbG8="}]}`, `{"MEDIA":[{"Data":"%s"}]}`, "hello"},
		"escaped key":      {`{"m\u0065dia":[{"data":"aGVsbG8="}]}`, `{"m\u0065dia":[{"data":"%s"}]}`, "hello"},
		"long input":       {`{"inputs":[{"value":"aGVsbG8gaGVsbG8gaGVsbG8="}]}`, `{"inputs":[{"value":"%s"}]}`, "hello hello hello"},
		"second item":      {`{"media":[{"url":"x"},{"data":"aGVsbG8="}]}`, `{"media":[{"url":"x"},{"data":"%s"}]}`, "hello"},
		"empty":            {`{"media":[{"data":""}]}`, `{"media":[{"data":"%s"}]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, read := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader} {
				var sinks []*bytes.Buffer
				rest, lifted, err := Lift(read(strings.NewReader(c.doc)), options(&sinks))
				require.NoError(t, err)
				require.Len(t, lifted, 1)
				require.NoError(t, lifted[0].Err)
				require.Equal(t, fmt.Sprintf(c.rest, lifted[0].Mark), string(rest))
				require.Equal(t, c.data, sinks[0].String())
				require.Equal(t, int64(len(c.data)), lifted[0].Size)
			}
		})
	}
}

func TestLiftLeavesOtherStringsAlone(t *testing.T) {
	for _, doc := range []string{
		`{"data":"aGVsbG8="}`,
		`{"media":{"0":{"data":"aGVsbG8="}}}`,
		`{"media":[["data","aGVsbG8="]]}`,
		`{"workflow":{"media":[{"data":"aGVsbG8="}]}}`,
		`{"inputs":[{"value":"a prompt \"x\""}]}`,
		`{"inputs":[{"value":"0123456789abcdef"}]}`,
		`"media"`,
		``,
		`{"media":[{"data":null}]}`,
		`]}{"a`,
	} {
		var sinks []*bytes.Buffer
		rest, lifted, err := Lift(strings.NewReader(doc), options(&sinks))
		require.NoError(t, err, doc)
		require.Empty(t, lifted, doc)
		require.Equal(t, doc, string(rest))
	}
}

func TestLiftSaysWhereItRefuses(t *testing.T) {
	large := base64.StdEncoding.EncodeToString(make([]byte, 1025))
	for name, c := range map[string]struct {
		doc   string
		kind  Kind
		field string
	}{
		"not base64":          {`{"media":[{"data":"AAAA"},{"data":"héllo"}]}`, Encoding, "media[1].data"},
		"URL-safe alphabet":   {`{"media":[{"data":"_-_-"}]}`, Encoding, "media[0].data"},
		"cut off":             {`{"media":[{"data":"AAAAA"}]}`, Encoding, "media[0].data"},
		"half padded":         {`{"media":[{"data":"QQ="}]}`, Encoding, "media[0].data"},
		"after padding":       {`{"media":[{"data":"QQ==QQ=="}]}`, Encoding, "media[0].data"},
		"data URL in plain":   {`{"media":[{"data":"data:text/plain,hello"}]}`, Encoding, "media[0].data"},
		"too large":           {`{"media":[{"data":"` + large + `"}]}`, ItemTooLarge, "media[0].data"},
		"one too many":        {`{"media":[{"data":""},{"data":""},{"data":""},{"data":""}]}`, TooManyItems, "media[3].data"},
		"line break":          {"{\"media\":[{\"data\":\"AA\nAA\"}]}", Syntax, ""},
		"bad escape":          {`{"media":[{"data":"\x41"}]}`, Syntax, ""},
		"bad digit":           {`{"media":[{"data":"\u00g1"}]}`, Syntax, ""},
		"ends inside":         {`{"media":[{"data":"AAAA`, Syntax, ""},
		"bad escape, lenient": {`{"inputs":[{"value":"not base64 at all, and \x"}]}`, Syntax, ""},
		"too deep":            {strings.Repeat("[", maxDepth+1), Syntax, ""},
		"rest too large":      {`{"a":"` + strings.Repeat("x", 1<<20) + `"}`, RestTooLarge, ""},
		"total too large":     {strings.Repeat(`{"media":[{"data":"`, 1) + strings.Repeat(" ", 3<<20), TotalTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var sinks []*bytes.Buffer
			_, _, err := Lift(strings.NewReader(c.doc), options(&sinks))
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.kind, e.Kind, e.Error())
			require.Equal(t, c.field, e.Field)
		})
	}
}

func TestLiftGoesOnPastALenientString(t *testing.T) {
	var sinks []*bytes.Buffer
	_, lifted, err := Lift(strings.NewReader(`{"inputs":[{"value":"a long prompt, no base64"}],"x":1}`), options(&sinks))
	require.NoError(t, err)
	require.Len(t, lifted, 1)
	require.Error(t, lifted[0].Err)
}

func TestLiftPassesErrorsOfReaderAndSinkOn(t *testing.T) {
	broken := errors.New("broken")
	var sinks []*bytes.Buffer
	_, _, err := Lift(io.MultiReader(strings.NewReader(`{"media":[{"data":"AA`), iotest.ErrReader(broken)), options(&sinks))
	require.ErrorIs(t, err, broken)

	o := options(&sinks)
	o.Sink = func(string) (io.Writer, error) { return nil, broken }
	_, _, err = Lift(strings.NewReader(`{"media":[{"data":"AA"}]}`), o)
	require.ErrorIs(t, err, broken)
}

// BenchmarkLift is a request that is nearly all media.
func BenchmarkLift(b *testing.B) {
	doc := []byte(`{"media":[{"name":"a.png","data":"` + base64.StdEncoding.EncodeToString(make([]byte, 8<<20)) + `"}],"workflow":{}}`)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		_, _, err := Lift(bytes.NewReader(doc), Options{
			Fields: []Field{{Path: []string{"media", "*", "data"}}}, MaxItems: 1, MaxItem: 16 << 20, MaxRest: 1 << 20, MaxTotal: 1 << 30,
			Sink: func(string) (io.Writer, error) { return io.Discard, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
