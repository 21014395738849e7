package workflows

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// validSeeds are documents on both sides of the rules.
var validSeeds = []string{
	``, ` `, `{}`, `[]`, ` [ ] `, `{"a":1}`, `{"a":1,}`, `{"a" : [1, 2.5e-3, -0, "x"] }`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{a:1}`,
	`01`, `-`, `-01`, `0`, `-0.0`, `1.`, `.5`, `1e`, `1e+`, `1E+5`, `1e5x`, `+1`, `NaN`, `tru`, `true`, `trueX`, `null `, `falsey`,
	`"a`, `"\u12G4"`, `"\u00e9"`, `"\x"`, "\"\x01\"", "\"\x7f\xff\"", `"\`, `"\"`, `"\\"`, `1 2`, `{}{}`, `[[[[]]]]`, "\ufeff{}", `{"a":1 "b":2}`, "[1\f]",
}

// validJSON reports whether b is one value.
func validJSON(b []byte) bool {
	i, ok := validValue(b, skipSpace(b, 0), maxValidDepth)
	return ok && skipSpace(b, i) == len(b)
}

func TestValidJSONAgreesWithEncodingJSON(t *testing.T) {
	for _, s := range validSeeds {
		require.Equal(t, json.Valid([]byte(s)), validJSON([]byte(s)), "%q", s)
	}
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	require.True(t, validJSON(nested(maxValidDepth)))
	require.False(t, validJSON(nested(maxValidDepth+1)), "deeper than it follows")
}

func TestFindMemberTakesTheFirstOfTheName(t *testing.T) {
	for doc, want := range map[string]string{
		`{"workflow":{"a":1}}`: `{"a":1}`, ` { "x" : [1,{"workflow":2}] , "workflow" : "}" , "workflow":3}`: `"}"`,
		`{"Workflow":1}`: "", `{"x":{"workflow":1}}`: "", `[{"workflow":1}]`: "", `{"x":tru,"workflow":1}`: "", `{"workflow":{]}`: "",
		`{"workflow"`: "", `{"workflow":`: "", `{`: "", ``: "", `{"x":1`: "", `{"x":1 "workflow":2}`: "", `{"workflow":1} and more`: "1",
	} {
		start, end, ok := FindMember([]byte(doc), "workflow")
		require.Equal(t, want != "", ok, "%s", doc)
		if ok {
			require.Equal(t, want, doc[start:end])
		}
	}
}

func FuzzValidJSON(f *testing.F) {
	for _, s := range validSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := validJSON(b), json.Valid(b); got != want && (got || len(b) < maxValidDepth) {
			t.Errorf("validValue(%q) is %v", b, got)
		}
	})
}

// BenchmarkParse reads a graph of about 60 kB, the size of a large video workflow.
func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	text.WriteString(`{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":0}}`)
	for i := 2; text.Len() < 60_000; i++ {
		fmt.Fprintf(&text, `,"%d":{"class_type":"ImageScale","inputs":{"image":["%d",0],"upscale_method":"nearest-exact","width":%d,"height":16,"crop":"disabled"},"_meta":{"title":"a red fox walks slowly through fresh snow at dawn %d"}}`, i, i-1, i, i*7919)
	}
	raw := []byte(text.String() + "}")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		g, err := Parse(raw)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Unsafe(nil); err != nil {
			b.Fatal(err)
		}
		g.JSON()
	}
}
