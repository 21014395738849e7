package workflows

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRefusesWhatIsNotAnAPIGraph(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)
	for _, c := range []struct{ what, raw, name, says string }{
		{"nothing", "", ErrNameEmpty, "empty"},
		{"white space", " \n", ErrNameEmpty, "empty"},
		{"no nodes", "{}", ErrNameEmpty, "no nodes"},
		{"not JSON", "{\n\"1\": {,}}", ErrNameMalformed, "line 2"},
		{"NaN", `{"1":{"class_type":"A","inputs":{"a":NaN}}}`, ErrNameMalformed, "not JSON"},
		{"not UTF-8", "{\"\xff\":{}}", ErrNameMalformed, "UTF-8"},
		{"an array", "[]", ErrNameMalformed, "object of nodes"},
		{"a text", `"graph"`, ErrNameMalformed, "object of nodes"},
		{"editor format", `{"last_node_id": 3, "nodes": [{"id": 1}], "links": []}`, ErrNameEditorFormat, "Export (API)"},
		{"wrapped editor format", `{"prompt": {"nodes": [], "links": []}}`, ErrNameMalformed, "prompt"},
		{"a node that is a text", `{"1": "LoadImage"}`, ErrNameMalformed, `node "1" is not an object`},
		{"no class_type", `{"1": {"inputs": {}}}`, ErrNameMalformed, "class_type"},
		{"a class_type that is no text", `{"1": {"class_type": 5, "inputs": {}}}`, ErrNameMalformed, "class_type"},
		{"no inputs", `{"1": {"class_type": "A"}}`, ErrNameMalformed, "no inputs"},
		{"inputs in a list", `{"1": {"class_type": "A", "inputs": []}}`, ErrNameMalformed, "not an object"},
		{"a node twice", `{"1": {"class_type": "A", "inputs": {}}, "1": {"class_type": "B", "inputs": {}}}`, ErrNameMalformed, "twice"},
		{"a node twice, disguised", `{"1": {"class_type": "A", "inputs": {}}, "\u0031": {"class_type": "B", "inputs": {}}}`, ErrNameMalformed, "twice"},
		{"an input twice", `{"1": {"class_type": "A", "inputs": {"a": 1, "a": 2}}}`, ErrNameMalformed, "twice"},
		{"a nested key twice", `{"1": {"class_type": "A", "inputs": {"a": {"__value__": 1, "__value__": 2}}}}`, ErrNameMalformed, "twice"},
		{"too deep", `{"1": {"class_type": "A", "inputs": {"a": ` + deep + `}}}`, ErrNameMalformed, "nested deeper"},
		{"a path as id", `{"../x": {"class_type": "A", "inputs": {}}}`, ErrNameMalformed, "slash"},
		{"too many bytes", `{"1": {"class_type": "A", "inputs": {"a": "` + strings.Repeat("x", MaxBytes) + `"}}}`, ErrNameTooLarge, "limit"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := Parse([]byte(c.raw))
			require.Contains(t, problem(t, err, c.name).Detail, c.says)
		})
	}
}

func TestParseLimitsTheNumberOfNodes(t *testing.T) {
	graph := func(n int) []byte {
		nodes := make([]string, n)
		for i := range nodes {
			nodes[i] = fmt.Sprintf(`"%d":{"class_type":"A","inputs":{}}`, i)
		}
		return []byte("{" + strings.Join(nodes, ",") + "}")
	}
	_, err := Parse(graph(MaxNodes))
	require.NoError(t, err)
	_, err = Parse(graph(MaxNodes + 1))
	problem(t, err, ErrNameTooLarge)
}

func TestParseTakesTheBodyOfPostPrompt(t *testing.T) {
	g := parse(t, `{"client_id": "x", "prompt": `+simple+`}`)
	require.Len(t, g.Nodes(), 3)
	g = parse(t, `{"prompt": {"class_type": "PrimitiveString", "inputs": {"value": "a node of that name"}}}`)
	require.Equal(t, "prompt", g.Nodes()[0].ID)
}

func TestGraphKeepsOrderAndBytesOfWhatIsNotTouched(t *testing.T) {
	raw := `{"10":{"_meta":{"title":"Größe"},"inputs":{"z":1.0,"a":18446744073709551615,"s":"caf\u00e9 \/ <b>","list":{"__value__":[1,2]}},"class_type":"A","is_changed":[true]},"2":{"class_type":"B","inputs":{}}}`
	g := parse(t, raw)
	require.Equal(t, raw, string(g.JSON()))
	require.Equal(t, "Größe", g.Nodes()[0].Title)

	require.NoError(t, g.Set("10", "a", json.RawMessage(" 7 ")))
	require.Equal(t, strings.Replace(raw, "18446744073709551615", "7", 1), string(g.JSON()))
}

func TestCloneIsIndependent(t *testing.T) {
	g := parse(t, simple)
	before := string(g.JSON())
	c := g.Clone()
	require.NoError(t, c.Set("2", "width", json.RawMessage("99")))
	require.Equal(t, before, string(g.JSON()))
	require.Contains(t, string(c.JSON()), `"width":99`)
	n, _ := c.Node("2")
	require.Same(t, c.Nodes()[1], n)
}

func TestSetNamesWhatIsWrong(t *testing.T) {
	g := parse(t, simple)
	e := problem(t, g.Set("9", "width", json.RawMessage("1")), ErrNameUnknownNode)
	require.Equal(t, "node", e.Fields[0].Field)
	e = problem(t, g.Set("2", "wdith", json.RawMessage("1")), ErrNameUnknownField)
	require.Equal(t, "field", e.Fields[0].Field)
	require.Contains(t, e.Detail, `node 2 "Upscale" (ImageScale)`)
	require.Contains(t, e.Detail, "image, upscale_method, width, height, crop")
	for _, bad := range []string{"", "{", "nope", `{"a":1,"a":2}`, "\"\xff\""} {
		e = problem(t, g.Set("2", "width", json.RawMessage(bad)), ErrNameBadValue)
		require.Equal(t, "value", e.Fields[0].Field)
	}
	require.Equal(t, string(parse(t, simple).JSON()), string(g.JSON()))
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{simple, `{"prompt":` + simple + `}`, `{"1":{"class_type":"A","inputs":{"a":["1",0],"b":{"c":[[]]}}}}`,
		`{"nodes":[]}`, `{"\u0031":{"class_type":"\ud800","inputs":{"\n":"\u0000"}}}`, "[]", "{", `{"1":{"class_type":"A","inputs":{"a":-1.5e3 , "b" : null}} }`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := Parse(raw)
		if err != nil {
			return
		}
		out := g.JSON()
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("what we wrote does not parse: %v\n%s", err, out)
		}
		if string(again.JSON()) != string(out) {
			t.Fatalf("writing is not stable:\n%s\n%s", out, again.JSON())
		}
		var want, got map[string]struct {
			Class  string         `json:"class_type"`
			Inputs map[string]any `json:"inputs"`
		}
		if json.Unmarshal(out, &got) != nil {
			t.Fatalf("not JSON: %s", out)
		}
		err = json.Unmarshal(raw, &want)
		if _, wrapped := want["prompt"]; err == nil && !wrapped {
			a, _ := json.Marshal(want)
			b, _ := json.Marshal(got)
			if string(a) != string(b) {
				t.Fatalf("meaning changed:\n%s\n%s", a, b)
			}
		}
		_ = Check(g, nil)
		_ = g.Unsafe(nil)
		_ = Guess(g, nil)
		_, _ = g.Prepare(Prepared{JobID: "j", AttemptID: "a"})
	})
}
